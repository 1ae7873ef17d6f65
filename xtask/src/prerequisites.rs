//! What the tests lean on that cargo does not bring: where it is, and how to get it.
//!
//! A missing prerequisite is an error that names it and the command that
//! installs it; nothing is skipped in silence. As root on a Debian-like system
//! the missing ones are installed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The oldest Node that the official libsignal package loads under. Debian 12 has
/// 18, so a newer one may have to come from npm.
const NODE_MAJOR: u32 = 20;
/// Where tools go that apt has too old; under the workspace's root.
const TOOLS: &str = "target/tools";

/// Where Debian keeps PostgreSQL's server programs: not on `PATH`.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// Something that has to be on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// A C compiler, for the bundled SQLite.
    CCompiler,
    /// For the vendored OpenSSL under SQLCipher.
    Perl,
    /// For the vendored OpenSSL under SQLCipher.
    Make,
    /// Runs the official libsignal package as a peer.
    Node,
    /// Installs the official libsignal package.
    Npm,
    /// PostgreSQL's `initdb` and `postgres`.
    Postgres,
    /// Wakes relay nodes among each other.
    NatsServer,
}

impl Tool {
    /// Everything that a test may ask for.
    pub(crate) const ALL: [Self; 7] = [
        Self::CCompiler,
        Self::Perl,
        Self::Make,
        Self::Node,
        Self::Npm,
        Self::Postgres,
        Self::NatsServer,
    ];

    /// Its name, as people know it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CCompiler => "a C compiler (cc)",
            Self::Perl => "perl",
            Self::Make => "make",
            Self::Node => "Node.js 20 or newer (node)",
            Self::Npm => "npm",
            Self::Postgres => "the PostgreSQL server (initdb, postgres)",
            Self::NatsServer => "nats-server",
        }
    }

    /// What it is for.
    pub(crate) const fn purpose(self) -> &'static str {
        match self {
            Self::CCompiler => "builds SQLite and SQLCipher",
            Self::Perl | Self::Make => "builds the OpenSSL that SQLCipher needs",
            Self::Node => "runs the official libsignal package against ours",
            Self::Npm => "installs the official libsignal package",
            Self::Postgres => "the relay's PostgreSQL backend",
            Self::NatsServer => "relay nodes that wake each other",
        }
    }

    /// Debian's packages for it.
    pub(crate) const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::CCompiler => &["gcc", "libc6-dev"],
            Self::Perl => &["perl"],
            Self::Make => &["make"],
            Self::Node => &["nodejs"],
            Self::Npm => &["npm"],
            Self::Postgres => &["postgresql"],
            Self::NatsServer => &["nats-server"],
        }
    }

    /// Whether a test of today uses it. The others are found and listed, not installed.
    pub(crate) const fn is_used(self) -> bool {
        !matches!(self, Self::Postgres | Self::NatsServer)
    }

    /// Where it is, if it is there in a version that will do.
    pub(crate) fn find(self, places: &Places) -> Option<PathBuf> {
        match self {
            Self::CCompiler => places
                .on_path("cc")
                .or_else(|| places.on_path("gcc"))
                .or_else(|| places.on_path("clang")),
            Self::Perl => places.on_path("perl"),
            Self::Make => places.on_path("make"),
            Self::Node => places.all_on_path("node").find(|node| is_new_enough(node)),
            Self::Npm => places.on_path("npm"),
            Self::Postgres => places.postgres(),
            Self::NatsServer => places.on_path("nats-server"),
        }
    }
}

/// Where to look.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    path: Vec<PathBuf>,
    debian_postgres: PathBuf,
}

impl Places {
    /// This machine's, with the tools under the workspace's `root` first.
    pub(crate) fn here(root: &Path) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "looking a program up is what PATH is for"
        )]
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own_node = root
            .join(TOOLS)
            .join("node_modules")
            .join(node_package())
            .join("bin");
        Self {
            path: std::iter::once(own_node)
                .chain(std::env::split_paths(&path))
                .collect(),
            debian_postgres: PathBuf::from(DEBIAN_POSTGRES),
        }
    }

    /// What `PATH` has to be for the tests to find the same: an older Node must
    /// not come before the one that was found.
    ///
    /// # Errors
    /// When a folder's name cannot be in a `PATH`.
    pub(crate) fn path(&self) -> anyhow::Result<OsString> {
        let node = Tool::Node.find(self);
        let first = node.as_deref().and_then(Path::parent);
        let folders = first
            .into_iter()
            .chain(self.path.iter().map(PathBuf::as_path));
        std::env::join_paths(folders).context("a folder's name cannot be in PATH")
    }

    /// The first program of that name on `PATH`.
    fn on_path(&self, name: &str) -> Option<PathBuf> {
        self.all_on_path(name).next()
    }

    fn all_on_path(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        self.path
            .iter()
            .map(move |folder| folder.join(name))
            .filter(|program| program.is_file())
    }

    /// The folder with `initdb` and `postgres`: Debian's newest version first
    /// (its folder is not on `PATH`), then `PATH`.
    fn postgres(&self) -> Option<PathBuf> {
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(&self.debian_postgres)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        let on_path = self
            .on_path("postgres")
            .and_then(|program| program.parent().map(Path::to_path_buf));
        versions
            .into_iter()
            .map(|(_, folder)| folder)
            .chain(on_path)
            .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
    }
}

/// Whether `node` says that it is at least [`NODE_MAJOR`].
fn is_new_enough(node: &Path) -> bool {
    let Ok(output) = Command::new(node).arg("--version").output() else {
        return false;
    };
    major_version(&String::from_utf8_lossy(&output.stdout)).is_some_and(|major| major >= NODE_MAJOR)
}

/// 20 from "v20.20.0".
fn major_version(text: &str) -> Option<u32> {
    text.trim()
        .trim_start_matches('v')
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// Makes sure that everything today's tests use is here, prints what was found,
/// and says where. `install` allows apt-get, which also needs root, and npm.
///
/// # Errors
/// When something is missing and cannot be installed: the message lists all of
/// it with the command that helps.
pub(crate) fn ensure(root: &Path, install: bool) -> anyhow::Result<Places> {
    let places = Places::here(root);
    let missing = missing(&places);
    if !missing.is_empty() && install && is_root() && places.on_path("apt-get").is_some() {
        apt_install(&missing)?;
    }
    if install && Tool::Node.find(&places).is_none() && Tool::Npm.find(&places).is_some() {
        npm_install_node(root)?;
    }
    let places = Places::here(root);
    for tool in Tool::ALL {
        match (tool.find(&places), tool.is_used()) {
            (Some(place), _) => println!("found    {:<42} {}", tool.name(), place.display()),
            (None, false) => println!(
                "absent   {:<42} no test uses it yet ({})",
                tool.name(),
                tool.purpose()
            ),
            (None, true) => println!("MISSING  {:<42} {}", tool.name(), tool.purpose()),
        }
    }
    let missing = self::missing(&places);
    if missing.is_empty() {
        Ok(places)
    } else {
        bail!("{}", complaint(&missing));
    }
}

/// What today's tests use and this machine lacks.
fn missing(places: &Places) -> Vec<Tool> {
    Tool::ALL
        .into_iter()
        .filter(|tool| tool.is_used() && tool.find(places).is_none())
        .collect()
}

/// The list of what is missing, with the way out.
fn complaint(missing: &[Tool]) -> String {
    let mut text = String::from("the tests need what this machine does not have:\n");
    for tool in missing {
        let _ = writeln!(text, "  - {}: {}", tool.name(), tool.purpose());
    }
    let _ = write!(
        text,
        "install it, on Debian or Ubuntu with\n  sudo apt-get install --no-install-recommends {}\nand run this again",
        packages(missing).join(" ")
    );
    if missing.contains(&Tool::Node) {
        let _ = write!(
            text,
            "\n(where that gives an older Node: npm install --prefix {TOOLS} --no-save {}@{NODE_MAJOR})",
            node_package()
        );
    }
    text
}

/// npm's package with nothing but Node's own binary in it.
fn node_package() -> String {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let processor = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("node-{system}-{processor}")
}

fn npm_install_node(root: &Path) -> anyhow::Result<()> {
    println!("installing Node {NODE_MAJOR} with npm: the one here is missing or too old");
    let tools = root.join(TOOLS);
    std::fs::create_dir_all(&tools)?;
    run(Command::new("npm")
        .args([
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ])
        .arg("--prefix")
        .arg(&tools)
        .arg(format!("{}@{NODE_MAJOR}", node_package())))
}

fn packages(missing: &[Tool]) -> Vec<&'static str> {
    missing
        .iter()
        .flat_map(|tool| tool.packages())
        .copied()
        .collect()
}

fn apt_install(missing: &[Tool]) -> anyhow::Result<()> {
    let packages = packages(missing);
    println!("installing {} with apt-get", packages.join(" "));
    run(Command::new("apt-get")
        .arg("update")
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    run(Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Whether this process may install packages.
fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Installs the official libsignal package for `tests/interop`, at exactly the
/// versions of its lock file. Done once per lock file: a copy of the lock in
/// `node_modules` says which one is installed.
///
/// # Errors
/// When npm fails, or may not be run: the message holds the command to try by hand.
pub(crate) fn ensure_interop_package(root: &Path, install: bool) -> anyhow::Result<()> {
    let folder = root.join("tests/interop");
    let lock = folder.join("package-lock.json");
    let wanted =
        std::fs::read(&lock).with_context(|| format!("{} cannot be read", lock.display()))?;
    let stamp = folder.join("node_modules/.installed-lock.json");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!(
            "found    {:<42} {}",
            "the official libsignal package",
            folder.display()
        );
        return Ok(());
    }
    if !install {
        bail!(
            "the official libsignal package is not installed: run `npm ci` in {} (or leave out --no-install)",
            folder.display()
        );
    }
    println!("installing the official libsignal package with npm ci");
    run(Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(&folder))
    .with_context(|| {
        format!(
            "npm could not install the official libsignal package; try `npm ci` in {}",
            folder.display()
        )
    })?;
    std::fs::write(&stamp, wanted).with_context(|| format!("{} cannot be written", stamp.display()))
}

/// Runs a command to its end, with its output shown.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    if status.success() {
        Ok(())
    } else {
        bail!("{} failed: {status}", command.get_program().display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir_all(folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn places(root: &Path) -> Places {
        Places {
            path: vec![root.join("empty"), root.join("bin")],
            debian_postgres: root.join("postgresql"),
        }
    }

    #[test]
    fn everything_is_found_where_debian_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        for name in ["cc", "perl", "make", "npm", "nats-server"] {
            program(&root.path().join("bin"), name, "true");
        }
        program(&root.path().join("bin"), "node", "echo v20.20.0");
        for version in ["9", "15"] {
            let folder = root.path().join("postgresql").join(version).join("bin");
            program(&folder, "initdb", "true");
            program(&folder, "postgres", "true");
        }
        let places = places(root.path());
        for tool in Tool::ALL {
            assert!(tool.find(&places).is_some(), "{}", tool.name());
        }
        assert_eq!(
            Tool::Postgres.find(&places),
            Some(root.path().join("postgresql/15/bin"))
        );
        assert!(missing(&places).is_empty());
    }

    #[test]
    fn postgres_is_found_on_path_and_only_whole() {
        let root = tempfile::tempdir().unwrap();
        program(&root.path().join("bin"), "postgres", "true");
        assert_eq!(Tool::Postgres.find(&places(root.path())), None);
        program(&root.path().join("bin"), "initdb", "true");
        assert_eq!(
            Tool::Postgres.find(&places(root.path())),
            Some(root.path().join("bin"))
        );
    }

    #[test]
    fn an_old_node_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        program(&root.path().join("bin"), "node", "echo v18.20.4");
        assert_eq!(Tool::Node.find(&places(root.path())), None);
        // A newer one further down the path is found past it.
        program(&root.path().join("more"), "node", "echo v22.1.0");
        let mut both = places(root.path());
        both.path.push(root.path().join("more"));
        assert_eq!(Tool::Node.find(&both), Some(root.path().join("more/node")));
        program(&root.path().join("bin"), "node", "exit 1");
        assert_eq!(Tool::Node.find(&places(root.path())), None);
        assert_eq!(major_version("v18.20.4\n"), Some(18));
        assert_eq!(major_version("none"), None);
    }

    #[test]
    fn the_complaint_names_what_is_missing_and_the_command() {
        let root = tempfile::tempdir().unwrap();
        let missing = missing(&places(root.path()));
        assert_eq!(missing.len(), 5, "what later work needs is not demanded");
        let text = complaint(&missing);
        for tool in missing {
            assert!(text.contains(tool.name()), "{text}");
        }
        assert!(
            text.contains(
                "sudo apt-get install --no-install-recommends gcc libc6-dev perl make nodejs npm"
            ),
            "{text}"
        );
    }
}
