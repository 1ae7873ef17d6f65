//! The OpenAPI document, from the table of routes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wardline_wire::problem::{self, ProblemKind};

use crate::auth::matrix;
use crate::body::PROTOBUF;
use crate::router::{ROUTES, Route};

/// The document that is committed as `docs/openapi.json`.
pub fn document() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        paths
            .entry(route.path)
            .or_default()
            .insert(route.method.to_lowercase(), operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wardline relay",
            "version": "1",
            "description": "Set-up of accounts, devices and prekeys, and the WebSocket on which \
                envelopes travel. Bodies are the protobuf messages of wire/proto, which describes \
                every field. Refusals are RFC 9457 problem documents; the WebSocket has typed \
                error frames.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "From POST /v1/auth/token; opaque to its holder.",
                }
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status"],
                    "properties": {
                        "type": {
                            "type": "string",
                            "enum": ProblemKind::ALL
                                .iter()
                                .map(|kind| format!("urn:wardline:problem:{}", kind.slug()))
                                .collect::<Vec<_>>(),
                        },
                        "title": { "type": "string" },
                        "status": { "type": "integer" },
                        "detail": {
                            "type": "string",
                            "description": "What to do about it. Never content or identities.",
                        },
                        "retry_after_ms": {
                            "type": "integer",
                            "description": "For `limited`: milliseconds to wait.",
                        },
                    },
                }
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let is_open = matrix::is_open(route.action);
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for (status, message) in route.replies {
        responses.insert(status.to_string(), reply(*status, message));
    }
    for (status, kinds) in problems(route, is_open) {
        let names: Vec<_> = kinds
            .iter()
            .map(|kind| format!("`{}`: {}.", kind.slug(), kind.title()))
            .collect();
        responses.insert(
            status.to_string(),
            json!({
                "description": names.join(" "),
                "content": {
                    problem::CONTENT_TYPE: {
                        "schema": { "$ref": "#/components/schemas/Problem" }
                    }
                },
            }),
        );
    }
    let mut operation = json!({
        "summary": route.summary,
        "description": format!("For: {}", matrix::describe(route.action)),
        "responses": responses,
    });
    if let Some(fields) = operation.as_object_mut() {
        if !is_open {
            fields.insert("security".to_owned(), json!([{ "token": [] }]));
        }
        if let Some(message) = route.request {
            fields.insert(
                "requestBody".to_owned(),
                json!({ "required": true, "content": body(message) }),
            );
        }
        let parameters: Vec<_> = route
            .path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| {
                json!({
                    "name": name, "in": "path", "required": true,
                    "schema": { "type": "string" },
                })
            })
            .collect();
        if !parameters.is_empty() {
            fields.insert("parameters".to_owned(), Value::Array(parameters));
        }
    }
    operation
}

fn reply(status: u16, message: &str) -> Value {
    match (status, message) {
        (101, _) => json!({ "description": "The connection is a WebSocket now." }),
        (_, "") => json!({ "description": "Done." }),
        (_, "text") => json!({
            "description": "Text.",
            "content": { "text/plain": { "schema": { "type": "string" } } },
        }),
        (_, message) => json!({
            "description": format!("`wardline.wire.v1.{message}`"),
            "content": body(message),
        }),
    }
}

fn body(message: &str) -> Value {
    json!({
        PROTOBUF: {
            "schema": {
                "type": "string",
                "format": "binary",
                "title": format!("wardline.wire.v1.{message}"),
            }
        }
    })
}

/// A route's own problems, and those that come with what it is.
fn problems(route: &Route, is_open: bool) -> BTreeMap<u16, Vec<ProblemKind>> {
    let mut kinds = route.problems.to_vec();
    if route.request.is_some() {
        kinds.extend([
            ProblemKind::Malformed,
            ProblemKind::TooLarge,
            ProblemKind::UnsupportedMediaType,
        ]);
    }
    if !is_open {
        kinds.extend([
            ProblemKind::Unauthorized,
            ProblemKind::Forbidden,
            ProblemKind::Revoked,
        ]);
    }
    if matrix::is_limited(route.action) {
        kinds.push(ProblemKind::Limited);
    }
    kinds.extend([ProblemKind::Internal, ProblemKind::Unavailable]);
    let mut by_status: BTreeMap<u16, Vec<ProblemKind>> = BTreeMap::new();
    for kind in kinds {
        let same = by_status.entry(kind.status()).or_default();
        if !same.contains(&kind) {
            same.push(kind);
        }
    }
    by_status
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = include_str!("../../docs/openapi.json");

    #[test]
    fn the_committed_document_is_the_table() {
        let committed: Value = serde_json::from_str(COMMITTED).unwrap();
        assert!(
            committed == document(),
            "run `cargo run -p wardline-relay -- openapi > docs/openapi.json`"
        );
    }

    #[test]
    fn every_route_is_in_it_once() {
        let document = document();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_lowercase()];
            assert_eq!(operation["summary"], route.summary, "{}", route.path);
        }
        let documented: usize = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .map(|methods| methods.as_object().unwrap().len())
            .sum();
        assert_eq!(documented, ROUTES.len());
    }
}
