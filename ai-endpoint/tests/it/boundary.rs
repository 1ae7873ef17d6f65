//! Nothing that people said goes to a server that might pass it on.

use serde_json::json;
use wardline_ai::model::ollama::Demands;
use wardline_ai::model::{BoundaryFault, Model, ModelError, Warning};
use wardline_e2e::ollama::{DIGEST, MODEL, Ollama as StandIn, Script, answer, scenario};

use crate::support::{demands, hear, ollama, ollama_with, timeouts};

fn fault(error: &ModelError) -> BoundaryFault {
    match error {
        ModelError::Boundary(fault) => fault.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_healthy_server_is_described_exactly() {
    let stand_in = StandIn::start().await.unwrap();
    let checked = ollama(&stand_in).await.check().await.unwrap();
    let identity = checked.identity;
    assert_eq!(
        (
            identity.backend,
            identity.model.as_str(),
            identity.digest.as_str(),
            identity.server.as_str()
        ),
        ("ollama", MODEL, DIGEST, "0.33.0")
    );
    assert!(checked.warnings.is_empty());
    assert!(stand_in.chats().is_empty());
}

#[tokio::test]
async fn a_server_with_cloud_is_refused_and_hears_no_question() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.always(
        "/api/status",
        Script::json(
            200,
            &json!({"cloud": {"disabled": false, "source": "none"}}),
        ),
    );
    let heard = hear(&ollama(&stand_in).await).await;
    assert_eq!(fault(heard.error()), BoundaryFault::CloudOn);
    stand_in.always(
        "/api/status",
        Script::text(404, "text/plain", "404 page not found"),
    );
    let heard = hear(&ollama(&stand_in).await).await;
    assert_eq!(fault(heard.error()), BoundaryFault::CloudUnknown);
    for nonsense in [
        json!({}),
        json!({"cloud": {}}),
        json!([]),
        json!({"cloud": {"disabled": "true"}}),
    ] {
        stand_in.always("/api/status", Script::json(200, &nonsense));
        assert!(
            hear(&ollama(&stand_in).await).await.outcome.is_err(),
            "{nonsense}"
        );
    }
    assert!(stand_in.chats().is_empty());
}

#[tokio::test]
async fn the_operator_may_accept_that_with_a_warning() {
    let stand_in = StandIn::start().await.unwrap();
    let lax = Demands {
        require_cloud_off: false,
        ..demands()
    };
    stand_in.always(
        "/api/status",
        Script::json(
            200,
            &json!({"cloud": {"disabled": false, "source": "none"}}),
        ),
    );
    let model = ollama_with(&stand_in, lax.clone(), timeouts()).await;
    assert_eq!(
        model.check().await.unwrap().warnings,
        [Warning::CloudNotDisabled]
    );
    stand_in.always(
        "/api/status",
        Script::text(404, "text/plain", "404 page not found"),
    );
    assert_eq!(
        model.check().await.unwrap().warnings,
        [Warning::CloudUnknown]
    );
    // The other rules stay.
    let cloud = Demands {
        model: "gpt-oss:120b-cloud".to_owned(),
        ..lax
    };
    let model = ollama_with(&stand_in, cloud, timeouts()).await;
    assert!(matches!(
        fault(&model.check().await.unwrap_err()),
        BoundaryFault::CloudName(_)
    ));
}

#[tokio::test]
async fn stubs_of_remote_models_are_refused() {
    let stand_in = StandIn::start().await.unwrap();
    let tags = |more: serde_json::Value| {
        let mut tag = json!({"name": "tiny-chat:latest", "digest": DIGEST});
        tag.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Script::json(200, &json!({ "models": [tag] }))
    };
    for stub in [
        json!({"remote_host": "https://ollama.com:443"}),
        json!({"remote_model": "gpt-oss:120b"}),
        json!({"remote_host": {"a": 1}}),
    ] {
        stand_in.always("/api/tags", tags(stub.clone()));
        let heard = hear(&ollama(&stand_in).await).await;
        assert!(
            matches!(fault(heard.error()), BoundaryFault::RemoteModel(_)),
            "{stub}"
        );
    }
    stand_in.always(
        "/api/tags",
        tags(json!({"remote_host": "", "remote_model": null})),
    );
    assert!(hear(&ollama(&stand_in).await).await.outcome.is_ok());
    stand_in.usual("/api/tags");
    stand_in.always(
        "/api/show",
        Script::json(
            200,
            &json!({"remote_host": "https://ollama.com", "model_info": {}}),
        ),
    );
    let heard = hear(&ollama(&stand_in).await).await;
    assert!(matches!(
        fault(heard.error()),
        BoundaryFault::RemoteModel(_)
    ));
    assert_eq!(stand_in.chats().len(), 1);
}

#[tokio::test]
async fn an_answer_from_elsewhere_is_thrown_away() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.chat(scenario::remote_in_piece());
    let heard = hear(&ollama(&stand_in).await).await;
    assert_eq!(
        (heard.text.as_str(), fault(heard.error())),
        ("", BoundaryFault::RemoteAnswer)
    );
}

#[tokio::test]
async fn other_weights_are_refused() {
    let stand_in = StandIn::start().await.unwrap();
    let pinned = |digest: &str| Demands {
        digest: Some(digest.to_owned()),
        ..demands()
    };
    for good in [
        DIGEST,
        &DIGEST[..12],
        &format!("sha256:{}", DIGEST.to_uppercase()),
    ] {
        assert!(
            ollama_with(&stand_in, pinned(good), timeouts())
                .await
                .check()
                .await
                .is_ok(),
            "{good}"
        );
    }
    let model = ollama_with(&stand_in, pinned("000000000000"), timeouts()).await;
    assert!(matches!(
        fault(&model.check().await.unwrap_err()),
        BoundaryFault::DigestChanged { .. }
    ));
    // Without a pin the first one seen is kept, also from one question to the next.
    let model = ollama(&stand_in).await;
    assert!(hear(&model).await.outcome.is_ok());
    let other = json!({"models": [{"name": "tiny-chat:latest", "digest": "0".repeat(64)}]});
    stand_in.always("/api/tags", Script::json(200, &other));
    let heard = hear(&model).await;
    assert!(matches!(
        fault(heard.error()),
        BoundaryFault::DigestChanged { .. }
    ));
    assert_eq!(stand_in.chats().len(), 1);
}

#[tokio::test]
async fn an_old_server_and_a_missing_model_are_told() {
    let stand_in = StandIn::start().await.unwrap();
    let demanding = Demands {
        min_version: Some("0.34.0".to_owned()),
        ..demands()
    };
    let model = ollama_with(&stand_in, demanding, timeouts()).await;
    let error = model.check().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("0.33.0, older than model.min_version 0.34.0"),
        "{error}"
    );
    stand_in.always("/api/tags", Script::json(200, &json!({"models": []})));
    assert!(matches!(
        ollama(&stand_in).await.check().await,
        Err(ModelError::NoSuchModel)
    ));
}

#[tokio::test]
async fn a_smaller_window_is_respected() {
    let stand_in = StandIn::start().await.unwrap();
    let loaded = json!({"models": [{"name": "tiny-chat:latest", "digest": DIGEST, "size": 100, "size_vram": 60, "context_length": 1024}]});
    stand_in.always("/api/ps", Script::json(200, &loaded));
    let model = ollama(&stand_in).await;
    let checked = model.check().await.unwrap();
    assert_eq!(checked.context_limit, Some(1024));
    assert_eq!(
        checked.warnings,
        [Warning::PartlyOnCpu, Warning::SmallContext]
    );
    let long = wardline_ai::prompt::Prompt {
        estimate: 1100,
        ..crate::support::prompt("x")
    };
    assert!(matches!(
        model.answer(&long).await.err(),
        Some(ModelError::TooLong)
    ));
    assert!(stand_in.chats().is_empty());
    // An old server says neither what it loaded nor what the model can.
    stand_in.usual("/api/ps");
    stand_in.always("/api/show", Script::json(200, &json!({"details": {}})));
    stand_in.chat(answer(&["Rest."]));
    assert!(hear(&model).await.outcome.is_ok());
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let elsewhere = StandIn::start().await.unwrap();
    let stand_in = StandIn::start().await.unwrap();
    for path in ["/api/version", "/api/chat", "/api/show"] {
        stand_in.once(
            path,
            scenario::redirect(&format!("{}{path}", elsewhere.url())),
        );
        assert!(
            hear(&ollama(&stand_in).await).await.outcome.is_err(),
            "{path}"
        );
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn endless_bodies_are_refused() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.always("/api/show", scenario::huge_line(9 * 1024 * 1024));
    let heard = hear(&ollama(&stand_in).await).await;
    assert!(
        matches!(heard.error(), ModelError::LineTooLong { .. }),
        "{heard:?}"
    );
}
