//! `lynxdata version`.

use clap::Args;
use lynxdata_burn_model::{backends, devices};
use serde_json::json;

use super::{print, print_json};
use crate::exit::{DONE, Failure};

/// Print the version, backends and devices of this build
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata version
  lynxdata version --json | jq -r .version")]
pub(crate) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let profile = env!("LYNXDATA_PROFILE");
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let (devices, backends) = (devices(), backends());
    if arguments.json {
        print_json(&json!({
            "name": "lynxdata",
            "version": version,
            "profile": profile,
            "target": target,
            "backends": backends,
            "devices": devices,
        }))?;
    } else {
        let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
        print(&format!(
            "lynxdata {version} ({target}, {profile} build)\nbackends: {}\ndevices: {}\n",
            backends.join(", "),
            devices.join(", ")
        ))?;
    }
    Ok(DONE)
}
