//! `init` and `issuer`: what happens on the root's machine.

use std::io::IsTerminal as _;
use std::path::Path;

use age::secrecy::{ExposeSecret as _, SecretString};
use rand_core::UnwrapErr;
use serde_json::json;
use wardline_wire::clock::{Clock as _, SystemClock};
use wardline_wire::directory::role_name;

use super::args::{InitArgs, IssuerArgs};
use super::failure::Failure;
use super::output::Output;
use crate::files::{self, FileError};
use crate::root::{self, Root};
use crate::{DAY_MS, deployment};

pub(super) fn init(args: &InitArgs, output: &Output) -> Result<(), Failure> {
    if args.dir.join(deployment::FILE).exists() {
        return Err(FileError::Exists(args.dir.join(deployment::FILE)).into());
    }
    let passphrase = new_passphrase(args.passphrase_file.as_deref())?;
    let mut rng = UnwrapErr(getrandom::SysRng);
    let root = Root::init(&args.dir, &passphrase, args.work_factor, &mut rng)?;
    let anchor = root.anchor();
    let key = hex::encode(anchor.root().as_bytes());
    let fingerprint = hex::encode(anchor.fingerprint());
    output.data(
        &json!({
            "deployment_id": anchor.deployment().to_string(),
            "root_key": key,
            "root_fingerprint": fingerprint,
            "root_file": args.dir.join(root::FILE),
            "deployment_file": args.dir.join(deployment::FILE),
        }),
        &format!(
            "deployment   {}\nroot key     {key}\nfingerprint  {fingerprint}",
            anchor.deployment()
        ),
    )?;
    output.say(&format!(
        "\nThe root is in {root_file}; keep a copy in another place, and the passphrase in a third.\n\
         Next:\n  \
         1. give {deployment_file} to the relay\n  \
         2. wardline-authority issuer --dir {dir} --roles patient,staff,ai --days 90 --out ISSUER_DIR",
        root_file = args.dir.join(root::FILE).display(),
        deployment_file = args.dir.join(deployment::FILE).display(),
        dir = args.dir.display(),
    ));
    Ok(())
}

pub(super) fn issuer(args: &IssuerArgs, output: &Output) -> Result<(), Failure> {
    let root = open_root(&args.dir, args.passphrase_file.as_deref())?;
    let issuer_passphrase = args
        .issuer_passphrase_file
        .as_deref()
        .map(files::read_passphrase)
        .transpose()?;
    if let Some(passphrase) = &issuer_passphrase {
        files::check_new_passphrase(passphrase.expose_secret())?;
    }
    let mut roles = args.roles.clone();
    roles.sort_unstable_by_key(|role| *role as i32);
    roles.dedup();
    let now = SystemClock.now();
    let valid_for = args.days * DAY_MS;
    let mut rng = UnwrapErr(getrandom::SysRng);
    let made = root.sign_issuer(&roles, valid_for, now, &mut rng);
    let not_after = now.plus_millis(valid_for);
    // Noted before it exists anywhere: an issuer that nobody wrote down could not be revoked.
    root::note_issuer(&args.dir, made.serial(), &roles, not_after)?;
    let encryption = issuer_passphrase
        .as_ref()
        .map(|passphrase| (passphrase, args.work_factor));
    made.write(&args.out, root.anchor(), now, encryption)?;
    let names: Vec<_> = roles.iter().map(|role| role_name(*role)).collect();
    output.data(
        &json!({
            "serial": made.serial().to_string(),
            "roles": names,
            "not_after_ms": not_after.as_millis(),
            "dir": args.out,
            "encrypted": issuer_passphrase.is_some(),
        }),
        &format!(
            "issuer  {}\nroles   {}\nends    in {} days",
            made.serial(),
            names.join(", "),
            args.days
        ),
    )?;
    let extra = if issuer_passphrase.is_some() {
        " --issuer-passphrase-file FILE"
    } else {
        ""
    };
    output.say(&format!(
        "\nNext, on the issuer's machine (never in the relay's process):\n  \
         1. copy {dir} there, readable by its service alone\n  \
         2. wardline-authority serve --dir {dir} --relay-url https://…{extra}\n  \
         3. wardline-authority invite --dir {dir} --role staff --handle … --name … --relay-url https://…{extra}",
        dir = args.out.display(),
    ));
    Ok(())
}

/// Opens the root, asking for the passphrase if there is no file with it.
pub(super) fn open_root(dir: &Path, file: Option<&Path>) -> Result<Root, Failure> {
    let passphrase = match file {
        Some(file) => files::read_passphrase(file)?,
        None => prompt("Passphrase of the root: ")?,
    };
    Ok(Root::open(dir, &passphrase)?)
}

fn new_passphrase(file: Option<&Path>) -> Result<SecretString, Failure> {
    let passphrase = if let Some(file) = file {
        files::read_passphrase(file)?
    } else {
        let first = prompt("New passphrase for the root: ")?;
        files::check_new_passphrase(first.expose_secret())?;
        let second = prompt("The same again: ")?;
        if first.expose_secret() != second.expose_secret() {
            return Err(Failure::user(
                "passphrase",
                "the two passphrases differ",
                "run it again",
            ));
        }
        first
    };
    files::check_new_passphrase(passphrase.expose_secret())?;
    Ok(passphrase)
}

fn prompt(text: &str) -> Result<SecretString, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::user(
            "passphrase",
            "a passphrase is needed and there is no terminal to ask at",
            "give --passphrase-file",
        ));
    }
    rpassword::prompt_password(text)
        .map(SecretString::from)
        .map_err(|error| Failure::io("the terminal", &error))
}
