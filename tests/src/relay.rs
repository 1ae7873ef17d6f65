//! The real relay: its folder, its configuration, and what its operator can do
//! to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions as _, Row as _};

use crate::process::{Process, binary, succeed};

/// A relay that runs, in a folder of its own.
pub struct Relay {
    folder: PathBuf,
    log: PathBuf,
    url: String,
    tls_key: Option<String>,
    process: Option<Process>,
}

/// The relay's database as it was at one moment.
pub struct Snapshot(tempfile::TempDir);

/// The configuration file's name.
const CONFIG: &str = "relay.toml";
/// The database's folder.
const DATA: &str = "data";
/// The database key's file.
const KEY: &str = "database.key";

impl Relay {
    /// Prepares a folder for the clinic of `deployment_file`; nothing runs yet.
    /// `extra` is more of the configuration, in TOML.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn prepare(
        folder: &Path,
        log: &Path,
        deployment_file: &Path,
        extra: &str,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join(DATA))?;
        fs::write(folder.join(KEY), hex::encode(crate::spare::random::<32>()))?;
        let relay = Self {
            folder: folder.to_path_buf(),
            log: log.to_path_buf(),
            url: String::new(),
            tls_key: None,
            process: None,
        };
        fs::copy(deployment_file, relay.folder.join("deployment.toml"))?;
        let config = format!(
            "listen = \"127.0.0.1:0\"\n\
             deployment_file = \"deployment.toml\"\n\
             [database]\npath = \"{DATA}/relay.db\"\nkey_file = \"{KEY}\"\n{extra}"
        );
        fs::write(relay.folder.join(CONFIG), config)?;
        Ok(relay)
    }

    /// The same with TLS, and keys that `wardline-relay init` makes; nothing runs
    /// yet. Called again it makes new ones, as an impostor does.
    ///
    /// # Errors
    /// When the command fails or files cannot be written.
    pub fn prepare_tls(&mut self) -> anyhow::Result<()> {
        let new = tempfile::tempdir_in(&self.folder)?;
        let deployment = self.folder.join("deployment.toml");
        let output = succeed(
            Command::new(binary("wardline-relay")?)
                .args(["init", "--json", "--dir"])
                .arg(new.path())
                .arg("--deployment-file")
                .arg(&deployment),
        )?;
        let report: serde_json::Value = serde_json::from_str(&output)?;
        let key = report.get("relay_key_sha256").and_then(|key| key.as_str());
        self.tls_key = Some(key.context("no key in the report")?.to_owned());
        for file in ["tls.crt", "tls.key"] {
            fs::copy(new.path().join(file), self.folder.join(file))?;
        }
        let path = self.folder.join(CONFIG);
        let config = fs::read_to_string(&path)?;
        if !config.contains("[tls]") {
            let tls = "\n[tls]\ncertificate_file = \"tls.crt\"\nkey_file = \"tls.key\"\n";
            fs::write(path, config + tls)?;
        }
        Ok(())
    }

    /// SHA-256 of its TLS key, in hexadecimal, if it has one.
    pub fn tls_key(&self) -> Option<&str> {
        self.tls_key.as_deref()
    }

    /// Starts it. The port that it takes the first time is its port from then on.
    ///
    /// # Errors
    /// When it does not come up; the message holds what it said.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let from = fs::read_to_string(&self.log).unwrap_or_default().len();
        let mut command = Command::new(binary("wardline-relay")?);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.folder.join(CONFIG));
        let mut process = Process::start("wardline-relay", &mut command, &self.log)?;
        let address = process.wait_for("listening", from, listening_on)?;
        let scheme = if self.tls_key.is_some() {
            "https"
        } else {
            "http"
        };
        self.url = format!("{scheme}://{address}");
        self.process = Some(process);
        self.pin_port(&address)
    }

    fn pin_port(&self, address: &str) -> anyhow::Result<()> {
        let path = self.folder.join(CONFIG);
        let config = fs::read_to_string(&path)?;
        fs::write(path, config.replace("127.0.0.1:0", address))?;
        Ok(())
    }

    /// Where it listens: `http://127.0.0.1:PORT`, or `https://…` with TLS.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Its folder: configuration, key and database.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its database file.
    pub fn database(&self) -> PathBuf {
        self.folder.join(DATA).join("relay.db")
    }

    /// Its database key, as the operator holds it.
    ///
    /// # Errors
    /// When the key file cannot be read.
    pub fn database_key(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.folder.join(KEY))?)
    }

    /// Every value in the database, decrypted with the operator's key: table and
    /// column, and the bytes.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn dump(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let options = SqliteConnectOptions::new()
            .filename(self.database())
            .pragma("key", format!("\"x'{}'\"", self.database_key()?.trim()))
            .read_only(true);
        let mut connection = options.connect().await?;
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
                .fetch_all(&mut connection)
                .await?;
        let mut values = Vec::new();
        for table in tables {
            let query = AssertSqlSafe(format!("SELECT * FROM \"{table}\""));
            for row in sqlx::query(query).fetch_all(&mut connection).await? {
                for column in row.columns() {
                    let bytes: Option<Vec<u8>> = row.try_get_unchecked(column.ordinal())?;
                    let place = format!("{table}.{}", column.name());
                    values.push((place, bytes.unwrap_or_default()));
                }
            }
        }
        Ok(values)
    }

    /// The process, while it runs.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the relay is stopped")
    }

    /// Everything it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// When it does not stop, or not well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process.stop()?;
            anyhow::ensure!(status.success(), "the relay ended badly: {status}");
        }
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// A copy of the database, taken with the relay stopped for a moment.
    ///
    /// # Errors
    /// When it does not stop or start, or files cannot be copied.
    pub fn snapshot(&mut self) -> anyhow::Result<Snapshot> {
        let copy = tempfile::tempdir()?;
        self.stop()?;
        copy_files(&self.folder.join(DATA), copy.path())?;
        self.start()?;
        Ok(Snapshot(copy))
    }

    /// Puts an older database in place, as an operator does who wants to undo
    /// something and tells nobody.
    ///
    /// # Errors
    /// When it does not stop or start, or files cannot be copied.
    pub fn restore(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        self.restore_and(snapshot, |_| Ok(()))
    }

    /// The same, with something done to the stopped relay before it starts;
    /// `repair` gets the configuration file.
    ///
    /// # Errors
    /// As [`Relay::restore`], and what `repair` says.
    pub fn restore_and(
        &mut self,
        snapshot: &Snapshot,
        repair: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.stop()?;
        let data = self.folder.join(DATA);
        fs::remove_dir_all(&data)?;
        fs::create_dir(&data)?;
        copy_files(snapshot.0.path(), &data)?;
        repair(&self.folder.join(CONFIG))?;
        self.start()
    }
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The address in the line that says where it listens.
fn listening_on(log: &str) -> Option<String> {
    // A line that is still being written has no end yet.
    let whole = log.get(..=log.rfind('\n')?)?;
    whole.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let url = line.get("url")?.as_str()?;
        let is_it = line.get("event")?.as_str()? == "listening";
        is_it.then(|| url.split_once("://").map(|(_, address)| address.to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_whole_line_only() {
        let line = r#"{"event":"listening","url":"http://127.0.0.1:40123"}"#;
        assert_eq!(listening_on(line), None);
        assert_eq!(
            listening_on(&format!("starting\n{line}\nmore")),
            Some("127.0.0.1:40123".to_owned())
        );
    }
}
