//! The OpenAI dialect.

use serde_json::json;
use wardline_ai::model::{BoundaryFault, Model, ModelError, Warning};
use wardline_e2e::ollama::{
    Ollama as StandIn, Script, Step, openai_answer, openai_piece, scenario,
};

use crate::support::{hear, openai};

const CHAT: &str = "/v1/chat/completions";

fn events(bodies: &[&str]) -> Script {
    bodies
        .iter()
        .fold(Script::stream("text/event-stream"), |script, body| {
            script.chunk(body)
        })
        .end()
}

#[tokio::test]
async fn a_good_answer_and_its_request() {
    let stand_in = StandIn::start().await.unwrap();
    let model = openai(&stand_in).await;
    stand_in.once(CHAT, openai_answer(&["Keep ", "it ", "dry é."], "stop"));
    let heard = hear(&model).await;
    assert_eq!((heard.text.as_str(), heard.pieces), ("Keep it dry é.", 3));
    let end = heard.end();
    assert_eq!(
        (end.cut, end.prompt_tokens, end.reply_tokens),
        (false, Some(21), Some(3))
    );
    let request = stand_in
        .requests()
        .into_iter()
        .find(|r| r.path == CHAT)
        .unwrap()
        .json();
    assert_eq!(
        (
            &request["stream"],
            &request["max_tokens"],
            &request["temperature"]
        ),
        (&json!(true), &json!(512), &json!(0))
    );
    assert_eq!(request["messages"][0]["role"], "system");
}

#[tokio::test]
async fn a_cut_at_any_byte_changes_nothing() {
    let stand_in = StandIn::start().await.unwrap();
    let model = openai(&stand_in).await;
    let whole = openai_answer(&["日本 ", "👍"], "stop");
    for position in (0..=whole.bytes().len()).step_by(2) {
        stand_in.once(CHAT, whole.cut_at(position));
        let heard = hear(&model).await;
        assert_eq!(heard.text, "日本 👍", "cut at {position}");
        assert!(heard.outcome.is_ok());
    }
}

#[tokio::test]
async fn the_ends_are_told_apart() {
    let stand_in = StandIn::start().await.unwrap();
    let model = openai(&stand_in).await;
    for (finish, cut) in [
        ("stop", false),
        ("length", true),
        ("content_filter", true),
        ("tool_calls", true),
    ] {
        stand_in.once(CHAT, openai_answer(&["x"], finish));
        assert_eq!(hear(&model).await.end().cut, cut, "{finish}");
    }
    let piece = format!("data: {}\n\n", openai_piece("Take 5"));
    // Without [DONE], and with [DONE] but without a reason to finish, nothing is whole.
    for script in [
        events(&[&piece]),
        events(&[&piece, "data: [DONE]\n\n"]),
        scenario::server_stopped(),
    ] {
        stand_in.once(CHAT, script);
        assert!(hear(&model).await.outcome.is_err());
    }
    stand_in.once(
        CHAT,
        events(&[
            &piece,
            "data: {\"error\": {\"message\": \"CUDA out of memory\", \"code\": 500}}\n\n",
        ]),
    );
    assert!(matches!(
        hear(&model).await.error(),
        ModelError::FailedMidStream(_)
    ));
    stand_in.once(CHAT, events(&[&piece]).then(Step::Abort));
    assert!(hear(&model).await.outcome.is_err());
}

#[tokio::test]
async fn odd_events_are_read_and_nonsense_refused() {
    let stand_in = StandIn::start().await.unwrap();
    let model = openai(&stand_in).await;
    let body = format!(
        ": keep-alive\n\nevent: message\nid: 7\ndata:{}\n\n\ndata: {{\"choices\":[{{\"delta\":{{}},\ndata: \"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]",
        openai_piece("Rest.")
    );
    stand_in.once(CHAT, events(&[&body]));
    let heard = hear(&model).await;
    assert_eq!(heard.text, "Rest.");
    assert!(heard.outcome.is_ok(), "{heard:?}");
    for nonsense in [
        "<html>\n",
        "data: {\n\n",
        "data: {\"a\":1}\n\n",
        "data: []\n\n",
    ] {
        stand_in.once(CHAT, events(&[nonsense]));
        assert!(
            matches!(hear(&model).await.error(), ModelError::NotAnAnswer),
            "{nonsense}"
        );
    }
    stand_in.once(CHAT, scenario::huge_line(2 * 1024 * 1024));
    assert!(hear(&model).await.outcome.is_err());
}

#[tokio::test]
async fn reasoning_is_dropped() {
    let stand_in = StandIn::start().await.unwrap();
    let model = openai(&stand_in).await;
    let reasoning = json!({"choices": [{"delta": {"reasoning": "The patient", "reasoning_content": "Jane", "content": null}}]});
    let body = format!("data: {reasoning}\n\n");
    let rest = openai_answer(&["Rest."], "stop").bytes();
    let rest = rest.split(|byte| *byte == b'\n').count();
    assert!(rest > 3);
    let done =
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    stand_in.once(
        CHAT,
        events(&[&body, &format!("data: {}\n\n", openai_piece("Rest.")), done]),
    );
    assert_eq!(hear(&model).await.text, "Rest.");
}

#[tokio::test]
async fn an_ollama_in_disguise_is_refused() {
    let stand_in = StandIn::start().await.unwrap();
    let model = openai(&stand_in).await;
    stand_in.usual("/api/version");
    let error = model.check().await.unwrap_err();
    assert!(matches!(
        error,
        ModelError::Boundary(BoundaryFault::OllamaInDisguise)
    ));
    assert!(hear(&model).await.outcome.is_err());
    assert!(
        stand_in
            .requests()
            .iter()
            .all(|request| request.path != CHAT)
    );
}

#[tokio::test]
async fn the_model_must_be_there_if_the_server_can_say() {
    let stand_in = StandIn::start().await.unwrap();
    let model = openai(&stand_in).await;
    assert!(model.check().await.unwrap().warnings.is_empty());
    stand_in.always(
        "/v1/models",
        Script::json(200, &json!({"data": [{"id": "other"}]})),
    );
    assert!(matches!(model.check().await, Err(ModelError::NoSuchModel)));
    stand_in.always("/v1/models", Script::text(404, "text/plain", "404"));
    assert_eq!(
        model.check().await.unwrap().warnings,
        [Warning::NameNotListed]
    );
}

#[tokio::test]
async fn too_long_is_understood_in_every_dialect() {
    let stand_in = StandIn::start().await.unwrap();
    let model = openai(&stand_in).await;
    for body in [
        json!({"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error", "n_ctx": 1024}}),
        json!({"error": {"message": "This model's maximum context length is 2048 tokens.", "type": "BadRequestError", "code": 400}}),
        json!({"error": "{\"error\":{\"code\":400,\"message\":\"request (14019 tokens) exceeds the available context size (1024 tokens), try increasing it\",\"type\":\"exceed_context_size_error\"}}"}),
    ] {
        stand_in.once(CHAT, Script::json(400, &body));
        let heard = hear(&model).await;
        assert!(
            matches!(heard.error(), ModelError::TooLong),
            "{body}: {heard:?}"
        );
    }
}
