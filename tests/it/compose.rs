//! `docker-compose.yml` keeps what its header promises. No engine runs here, so
//! this reads the file itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_yaml_ng::Value;
use wardline_e2e::process::{binary, succeed};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn compose() -> anyhow::Result<Value> {
    let text = fs::read_to_string(root().join("docker-compose.yml"))?;
    let mut compose: Value = serde_yaml_ng::from_str(&text)?;
    compose.apply_merge()?;
    Ok(compose)
}

fn services(compose: &Value) -> anyhow::Result<Vec<(String, &Value)>> {
    let services = compose["services"].as_mapping().context("no services")?;
    services
        .iter()
        .map(|(name, service)| Ok((name.as_str().context("a name")?.to_owned(), service)))
        .collect()
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_sequence()
        .into_iter()
        .flatten()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

#[test]
fn every_service_runs_without_rights() -> anyhow::Result<()> {
    let compose = compose()?;
    for (name, service) in services(&compose)? {
        assert_eq!(service["user"], "10001:10001", "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(
            strings(&service["security_opt"]),
            ["no-new-privileges:true"],
            "{name}"
        );
        for forbidden in [
            "privileged",
            "network_mode",
            "pid",
            "ipc",
            "devices",
            "cap_add",
        ] {
            assert!(service.get(forbidden).is_none(), "{name}: {forbidden}");
        }
        for volume in strings(&service["volumes"]) {
            let (source, _) = volume.split_once(':').context("a volume without a place")?;
            assert!(!volume.contains("docker.sock"), "{name}");
            if source.starts_with('.') {
                assert!(volume.ends_with(":ro"), "{name}: {volume}");
            } else {
                assert!(
                    compose["volumes"].get(source).is_some(),
                    "{name}: {source} is not a named volume"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn only_the_relay_is_reachable_from_outside() -> anyhow::Result<()> {
    let compose = compose()?;
    for (name, service) in services(&compose)? {
        assert_eq!(service.get("ports").is_some(), name == "relay", "{name}");
        let is_outside = strings(&service["networks"]).contains(&"outside".to_owned());
        assert_eq!(
            is_outside,
            name == "relay" || name == "fetch-model",
            "{name}"
        );
    }
    for network in ["inside", "models"] {
        assert_eq!(compose["networks"][network]["internal"], true, "{network}");
    }
    // What may fetch models is started by hand only.
    let fetch = &compose["services"]["fetch-model"];
    assert_eq!(strings(&fetch["profiles"]), ["setup"]);
    Ok(())
}

#[test]
fn ollama_is_for_the_ai_endpoint_alone() -> anyhow::Result<()> {
    let compose = compose()?;
    let ollama = &compose["services"]["ollama"];
    assert_eq!(strings(&ollama["networks"]), ["models"]);
    assert_eq!(ollama["environment"]["OLLAMA_NO_CLOUD"], "1");
    assert!(ollama.get("expose").is_none());
    let there: Vec<String> = services(&compose)?
        .into_iter()
        .filter(|(_, service)| strings(&service["networks"]).contains(&"models".to_owned()))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(there, ["ai-endpoint", "ollama"]);
    Ok(())
}

#[test]
fn every_long_running_service_says_whether_it_is_well() -> anyhow::Result<()> {
    let compose = compose()?;
    for (name, service) in services(&compose)? {
        if service.get("profiles").is_some() {
            continue;
        }
        let test = strings(&service["healthcheck"]["test"]);
        assert_eq!(test.first().map(String::as_str), Some("CMD"), "{name}");
        assert!(
            !test
                .iter()
                .any(|word| word.contains("curl") || word.contains("wget")),
            "{name}"
        );
        if name == "relay" || name == "ai-endpoint" {
            assert_eq!(
                test.get(2).map(String::as_str),
                Some("healthcheck"),
                "{name}"
            );
        }
    }
    Ok(())
}

#[test]
fn secrets_are_files_and_images_are_named() -> anyhow::Result<()> {
    let compose = compose()?;
    let secrets = compose["secrets"].as_mapping().context("no secrets")?;
    for (name, secret) in secrets {
        assert!(secret["file"].is_string(), "{name:?}");
    }
    for (name, service) in services(&compose)? {
        for secret in strings(&service["secrets"]) {
            assert!(
                compose["secrets"].get(&secret).is_some(),
                "{name}: {secret}"
            );
        }
        let environment = serde_yaml_ng::to_string(&service["environment"])?.to_lowercase();
        for word in ["password", "passphrase", "secret", "token", "key"] {
            assert!(
                !environment.contains(word),
                "{name}: {word} in the environment"
            );
        }
        let image = service["image"].as_str().context("no image")?;
        assert!(!image.ends_with(":latest"), "{name}");
    }
    Ok(())
}

#[test]
fn the_dockerfile_has_every_target_and_ends_without_rights() -> anyhow::Result<()> {
    let compose = compose()?;
    for (name, service) in services(&compose)? {
        let Some(build) = service.get("build") else {
            continue;
        };
        let file = build["dockerfile"].as_str().context("no Dockerfile")?;
        let target = build["target"].as_str().context("no target")?;
        let text = fs::read_to_string(root().join(file))?;
        assert!(
            text.lines()
                .any(|line| line.starts_with("FROM ") && line.ends_with(&format!(" AS {target}"))),
            "{name}: {target}"
        );
        for line in text.lines().filter(|line| line.starts_with("FROM ")) {
            assert!(!line.contains(":latest"), "{line}");
        }
    }
    Ok(())
}

/// A configuration of `deploy/docker` with the containers' paths led to a folder here.
fn here(file: &str, folder: &Path, replacements: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
    let mut text = fs::read_to_string(root().join("deploy/docker").join(file))?;
    for (from, to) in replacements {
        assert!(text.contains(from), "{file} has no {from}");
        text = text.replace(from, &folder.join(to).display().to_string());
    }
    let path = folder.join(file);
    fs::write(&path, text)?;
    Ok(path)
}

#[test]
fn the_relays_configuration_is_one() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let made = succeed(
        Command::new(binary("wardline-relay")?)
            .args(["init", "--listen", "0.0.0.0:8443", "--tls-name", "relay"])
            .args(["--deployment-id", "00112233445566778899aabbccddeeff"])
            .args(["--root-key", key, "--dir"])
            .arg(folder.path().join("new")),
    )?;
    assert!(made.contains("relay key for invites"), "{made}");
    fs::write(
        folder.path().join("deployment.toml"),
        format!("deployment_id = \"00112233445566778899aabbccddeeff\"\nroot_key = \"{key}\"\n"),
    )?;
    let config = here(
        "relay.toml",
        folder.path(),
        &[
            ("/etc/wardline/deployment.toml", "deployment.toml"),
            ("/run/secrets/relay-database-key", "new/database.key"),
            ("/run/secrets/relay-tls-certificate", "new/tls.crt"),
            ("/run/secrets/relay-tls-key", "new/tls.key"),
        ],
    )?;
    succeed(
        Command::new(binary("wardline-relay")?)
            .args(["config", "check", "--config"])
            .arg(config),
    )?;
    Ok(())
}
