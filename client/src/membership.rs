//! stub
use wardline_wire::ids::{AccountId, DeviceAddress, PayloadHash};
use crate::api::{ClientError, ConversationChange, ConversationId};
use crate::content::ConversationUpdate;
use crate::store::StoreError;
use crate::turn::Turn;
pub(crate) enum Standing { Member, NotMember, Unknown(Vec<PayloadHash>) }
pub(crate) async fn heads(_t: &mut Turn<'_>, _c: ConversationId) -> Result<Vec<PayloadHash>, StoreError> { todo!() }
pub(crate) async fn create(_t: &mut Turn<'_>, _title: Option<String>, _m: &[AccountId]) -> Result<ConversationId, ClientError> { todo!() }
pub(crate) async fn standing(_t: &mut Turn<'_>, _c: ConversationId, _s: DeviceAddress, _h: &[PayloadHash]) -> Result<Standing, StoreError> { todo!() }
pub(crate) async fn update_arrived(_t: &mut Turn<'_>, _s: DeviceAddress, _c: ConversationId, _u: &ConversationUpdate) -> Result<Result<(), &'static str>, StoreError> { todo!() }
pub(crate) async fn ask_for(_t: &mut Turn<'_>, _c: ConversationId, _s: DeviceAddress, _m: &[PayloadHash]) -> Result<(), StoreError> { todo!() }
pub(crate) async fn requests_accepted(_t: &mut Turn<'_>, _a: AccountId) -> Result<(), StoreError> { todo!() }
pub(crate) async fn account_learned(_t: &mut Turn<'_>, _a: AccountId) -> Result<(), StoreError> { todo!() }
pub(crate) async fn send_whole_log(_t: &mut Turn<'_>, _c: ConversationId, _a: AccountId) -> Result<(), StoreError> { todo!() }
pub(crate) fn is_change(_c: &[u8]) -> bool { false }
pub(crate) fn read_change(_c: &[u8]) -> Option<ConversationChange> { None }
