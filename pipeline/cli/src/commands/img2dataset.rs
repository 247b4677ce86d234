//! The options of img2dataset 1.47 that have no counterpart here, so that its command lines work
//! unchanged. Most are ignored, with a log line that says why. An option that would keep other
//! images than it asks for is an error.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// An option of img2dataset.
struct ForeignOption {
    name: &'static str,
    /// Values that ask for nothing special.
    neutral: &'static [&'static str],
    answer: Answer,
}

/// Our answer to a foreign option.
#[derive(Clone, Copy)]
enum Answer {
    /// The option is ignored, for this reason.
    PassedOver(&'static str),
    /// The option is an error, for this reason and with this advice.
    Refused(&'static str),
}

use Answer::{PassedOver, Refused};

const OPTIONS: &[ForeignOption] = &[
    option("processes-count", &[], PassedOver("one process uses every core")),
    option("distributor", &["multiprocessing"], PassedOver("one process on one machine does all the work")),
    option("subjob-size", &[], PassedOver("there are no subjobs")),
    option("oom-shard-count", &["5"], PassedOver("shard names always have as many digits as readers expect")),
    option("max-shard-retry", &["1"], PassedOver("a part fails only if the disk fails, and then the run reports it")),
    option("save-additional-columns", &["none", "[]"], PassedOver("all columns of the list are kept")),
    option("skip-reencode", &["false"], PassedOver("an image that needs no change always keeps its bytes")),
    option(
        "extract-exif",
        &["false"],
        PassedOver("bytes that are kept as served contain the EXIF data; there is no column for it"),
    ),
    option("compute-hash", &["sha256", "none"], PassedOver("the column sha256 has the SHA-256 of the bytes as served")),
    option("upscale-interpolation", &["bicubic"], PassedOver("the filter is bicubic, antialiased")),
    option("downscale-interpolation", &["bicubic"], PassedOver("the filter is bicubic, antialiased")),
    option(
        "enable-wandb",
        &["false"],
        PassedOver("--metrics-port serves counters, and `lynxdata status DIR --json` prints the tables"),
    ),
    option("wandb-project", &[], PassedOver("nothing is sent to Weights & Biases")),
    option(
        "incremental-mode",
        &["incremental", "extend"],
        Refused("the same command downloads new and missing rows; remove the output folder to start again"),
    ),
    option(
        "verify-hash",
        &["none", "sha256,sha256", "sha512,sha512", "md5,md5"],
        Refused(
            "a column of digests is always compared if its name is sha256, sha512 or md5; rename the column in the list",
        ),
    ),
    option(
        "ignore-ssl-certificate",
        &["false"],
        Refused("certificates are always checked; --ca-file adds a certificate authority"),
    ),
];

const fn option(name: &'static str, neutral: &'static [&'static str], answer: Answer) -> ForeignOption {
    ForeignOption { name, neutral, answer }
}

/// Foreign options of a command line.
#[derive(Default)]
pub(super) struct ForeignOptions(Vec<(&'static ForeignOption, String)>);

impl ForeignOptions {
    /// Logs the options that are ignored.
    ///
    /// # Errors
    /// Names the first one that is refused.
    pub(super) fn answer(&self) -> anyhow::Result<()> {
        for (ForeignOption { name, neutral, answer }, value) in &self.0 {
            let plain = value.to_ascii_lowercase().replace(['[', ']', '(', ')', '"', '\'', ' '], "");
            if neutral.iter().any(|neutral| plain == neutral.replace("[]", "")) {
                continue;
            }
            match answer {
                PassedOver(why) => tracing::info!("--{name} is ignored: {why}"),
                Refused(why) => anyhow::bail!("--{name} {value}: {why}"),
            }
        }
        Ok(())
    }
}

impl Args for ForeignOptions {
    fn augment_args(command: Command) -> Command {
        command.args(OPTIONS.iter().map(|option| {
            // As with Python Fire, a flag without a value is true.
            let argument = Arg::new(option.name).long(option.name).action(ArgAction::Set).num_args(0..=1);
            argument.default_missing_value("true").hide(true).requires("url_list")
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ForeignOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Self::default();
        options.update_from_arg_matches(matches)?;
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let given = OPTIONS.iter().filter_map(|option| Some((option, matches.get_one::<String>(option.name)?.clone())));
        self.0 = given.collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(name: &str, value: &str) -> anyhow::Result<()> {
        let option = OPTIONS.iter().find(|option| option.name == name).unwrap();
        ForeignOptions(vec![(option, value.to_owned())]).answer()
    }

    #[test]
    fn what_asks_for_nothing_is_no_error() {
        for (name, neutral, refused) in [
            ("incremental-mode", "incremental", "overwrite"),
            ("verify-hash", "[\"md5\", \"md5\"]", "[\"digest\", \"md5\"]"),
            ("ignore-ssl-certificate", "False", "True"),
        ] {
            answer_to(name, neutral).unwrap();
            let error = answer_to(name, refused).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{name} {refused}: ")), "{error}");
        }
        answer_to("processes-count", "16").unwrap();
        // New rows are fetched without being asked for.
        answer_to("incremental-mode", "extend").unwrap();
    }

    #[test]
    fn every_option_of_the_documentation_is_taken() {
        #[derive(clap::Parser)]
        struct Download {
            #[command(flatten)]
            arguments: crate::commands::download::Arguments,
        }
        let command = <Download as clap::CommandFactory>::command();
        let page = include_str!("../../../../docs/coming-from-img2dataset.md");
        let table = page.split("## Every option").nth(1).unwrap().split("\n\n").nth(1).unwrap();
        let cells = table.lines().skip(2).map(|line| line.split('|').nth(1).unwrap());
        let names: Vec<String> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect();
        // `http_proxy` is read from the environment.
        for name in names.iter().filter(|name| *name != "http_proxy") {
            let name = name.replace('_', "-");
            assert!(command.get_arguments().any(|argument| argument.get_long() == Some(&name)), "{name}");
        }
        assert!(names.len() > 36, "{names:?}");
    }
}
