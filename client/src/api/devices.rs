//! The account's own devices.

use wardline_wire::ids::DeviceId;

use super::{Client, ClientError, OwnDevice};
use crate::devices;
use crate::directory;
use crate::outbox;
use crate::store::accounts;

impl Client {
    /// Our devices, by the newest list.
    ///
    /// # Errors
    /// [`ClientError::NotCertified`].
    pub async fn devices(&self) -> Result<Vec<OwnDevice>, ClientError> {
        self.task(|turn| {
            Box::pin(async move {
                let own = turn.own_account();
                let stored = accounts::load(turn.db, own)
                    .await?
                    .ok_or(ClientError::NotCertified)?;
                let this = turn.identity.own.address.device;
                Ok(directory::list_of(turn, &stored)?
                    .devices()
                    .iter()
                    .map(|device| OwnDevice {
                        id: device.id,
                        added_at: device.added_at,
                        this: device.id == this,
                    })
                    .collect())
            })
        })
        .await
    }

    /// On the first device: takes another device's link code, puts it on the signed list,
    /// publishes the list and returns the grant to carry back. Treat the grant like a password.
    ///
    /// # Errors
    /// [`ClientError::LinkCode`], [`ClientError::NotPrimary`], [`ClientError::Relay`]; then the
    /// same code can be approved again.
    pub async fn approve_link(&self, code: &str) -> Result<String, ClientError> {
        let code = code.to_owned();
        let (list, grant) = self
            .task(move |turn| Box::pin(async move { devices::approve(turn, &code).await }))
            .await?;
        self.inner.relay.put_device_list(&list).await?;
        Ok(grant)
    }

    /// On the first device: takes a device off the list. It is shut out within a second.
    ///
    /// # Errors
    /// [`ClientError::NotPrimary`], [`ClientError::Invalid`] for an unknown device,
    /// [`ClientError::Relay`]: then the new list is published with the next connection.
    pub async fn revoke_device(&self, device: DeviceId) -> Result<(), ClientError> {
        let list = self
            .task(move |turn| Box::pin(async move { devices::revoke(turn, device).await }))
            .await?;
        self.inner.relay.put_device_list(&list).await?;
        self.task(|turn| {
            Box::pin(async move {
                let own = turn.own_account();
                outbox::advance(turn, own, None).await?;
                Ok(())
            })
        })
        .await
    }
}
