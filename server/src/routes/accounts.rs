//! Accounts: their records, device lists and access keys.

pub(crate) mod read;
pub(crate) mod read_handle;
pub(crate) mod replace_access_key;
pub(crate) mod replace_device_list;
