//! `GET /v1/keys`: what is left of a device's prekeys.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use wardline_wire::proto::PreKeyStock;

use crate::app::App;
use crate::auth::matrix::Action;
use crate::auth::{DeviceCaller, Lapsed};
use crate::body::{Reply, reply};
use crate::problem::Refusal;
use crate::router::Route;
use crate::store::Stock;

pub(crate) const ROUTE: Route = Route {
    method: "GET",
    path: "/v1/keys",
    action: Action::ReadPreKeyStock,
    summary: "What the relay still holds of the asking device's prekeys, and the mailbox epoch \
              under which to upload more.",
    request: None,
    replies: &[(200, "PreKeyStock")],
    problems: &[],
    handler: || get(handle),
};

async fn handle(
    State(app): State<Arc<App>>,
    caller: DeviceCaller,
) -> Result<Reply<PreKeyStock>, Refusal> {
    match app.store.prekey_stock(caller.address).await? {
        Some(stock) => Ok(reply(on_wire(stock))),
        None => Err(Lapsed::Revoked.into()),
    }
}

pub(super) fn on_wire(stock: Stock) -> PreKeyStock {
    PreKeyStock {
        mailbox_epoch: stock.mailbox_epoch,
        one_time_prekeys: stock.one_time,
        one_time_kyber_prekeys: stock.one_time_kyber,
        signed_prekey_id: stock.signed_id,
        last_resort_kyber_prekey_id: stock.last_resort_kyber_id,
    }
}

#[cfg(test)]
mod tests {
    use wardline_wire::proto::Role;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_new_device_has_none() {
        let world = World::new().await;
        let person = world.pending(Role::Patient).await;
        let stock: PreKeyStock = world.get(ROUTE.path, &person.token).await.message();
        assert!(
            stock
                == PreKeyStock {
                    mailbox_epoch: 1,
                    ..PreKeyStock::default()
                }
        );
    }
}
