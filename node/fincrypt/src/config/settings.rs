//! Layers of settings: default < file < `FINCRYPT_*` < flag, merged for each option.
//!
//! Everything about an option is asked of its declaration in [`Config`], as clap has it.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;

use super::error::{ConfigError, Origin};
use super::{Config, file};

/// Similarity of two keys (Jaro-Winkler) from which on one is suggested for the other.
const SIMILAR: f64 = 0.8;
/// The same of a variable, which may be another program's.
const SAME_BUT_MISTYPED: f64 = 0.9;
/// What only an option of the command line can say.
const ONLY_OPTIONS: [&str; 4] = ["home", "role", "config", "password_file"];

/// One setting and where it came from.
#[derive(Debug, Clone)]
struct Setting {
    /// What was written; nothing for an option that is not set, several texts for a list.
    values: Vec<String>,
    origin: Origin,
}

/// All settings as written, every option present.
#[derive(Debug, Clone)]
pub struct Settings(BTreeMap<String, Setting>);

/// A setting as `config check` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The option.
    pub key: String,
    /// What was written; nothing for an option that is not set, several texts for a list.
    pub values: Vec<String>,
    /// Whether it takes a list.
    pub is_list: bool,
    /// Where it was written.
    pub origin: String,
    /// What the option is for.
    pub meaning: String,
    /// What is wrong with the value.
    pub problem: Option<String>,
}

impl Explained {
    /// The setting as a line of the configuration file.
    #[must_use]
    pub fn line(&self) -> String {
        let text = |value: &String| toml::Value::String(value.clone()).to_string();
        let value = match self.values.as_slice() {
            [value] if !self.is_list => text(value),
            [] => return format!("# {} is not set  # {}", self.key, self.meaning),
            values => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", ")),
        };
        format!("{} = {value}  # {}: {}", self.key, self.origin, self.meaning)
    }
}

/// All options, each declared by a field of [`Config`].
pub(super) fn declared() -> Command {
    Config::augment_args(Command::new("fincrypt").no_binary_name(true))
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// The variable of an option.
fn variable(key: &str) -> String {
    format!("FINCRYPT_{}", key.to_ascii_uppercase())
}

/// The name of an option on the command line, without its dashes.
fn flag(key: &str) -> String {
    key.replace('_', "-")
}

fn commas(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Adds the flags of the options that are `wanted` by key to a program. Their values are texts:
/// [`Settings`] checks them with those of the other layers.
#[must_use]
pub fn with_flags(command: Command, wanted: impl Fn(&str) -> bool, global: bool) -> Command {
    let declared = declared();
    let wanted = declared.get_arguments().filter(|arg| wanted(arg.get_id().as_str()));
    command.args(wanted.map(|arg| arg.clone().value_parser(ValueParser::string()).global(global)))
}

impl Settings {
    /// The defaults of the declarations.
    #[must_use]
    pub fn defaults() -> Self {
        let setting = |arg: &Arg| {
            let values = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
            let setting = Setting { values: values.collect(), origin: Origin::Default };
            (arg.get_id().to_string(), setting)
        };
        Self(declared().get_arguments().map(setting).collect())
    }

    /// Lays a file over them; a missing file is no error unless it `must_exist`.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, is no TOML, has unknown keys, or a list where one value
    /// belongs.
    pub fn with_file(mut self, path: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        let declared = declared();
        for entry in file::read(path, must_exist)? {
            let Some(arg) = declared.get_arguments().find(|arg| arg.get_id().as_str() == entry.key) else {
                return Err(self.unknown(entry.key, entry.origin));
            };
            if entry.is_array && !is_list(arg) {
                let (key, value, origin) = (entry.key, entry.values.join(","), entry.origin);
                return Err(ConfigError::Value { key, value, origin, reason: "takes one value".to_owned() });
            }
            self.lay(arg, entry.values, entry.origin);
        }
        Ok(self)
    }

    /// Lays `FINCRYPT_*` variables over them, as `variable` tells their values. Items of lists are
    /// separated by commas.
    #[must_use]
    pub fn with_environment(mut self, read: impl Fn(&str) -> Option<String>) -> Self {
        for arg in declared().get_arguments() {
            let name = variable(arg.get_id().as_str());
            if let Some(text) = read(&name) {
                let values = if is_list(arg) { commas(&text) } else { vec![text.trim().to_owned()] };
                self.lay(arg, values, Origin::Environment(name));
            }
        }
        self
    }

    /// Looks for variables that are meant for this program and are none of its own.
    ///
    /// # Errors
    /// [`ConfigError`] if one is nearly that of an option, or of an option without a variable.
    pub fn check_variables(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix("FINCRYPT_").map(str::to_ascii_lowercase) else { continue };
            let origin = Origin::Environment(name);
            if ONLY_OPTIONS.contains(&key.as_str()) {
                let reason = format!("there is no such variable: give --{}", flag(&key));
                return Err(ConfigError::Value { key, value, origin, reason });
            }
            let likeness = |known: &String| strsim::jaro_winkler(known, &key);
            if !self.0.contains_key(&key) && self.0.keys().any(|known| likeness(known) >= SAME_BUT_MISTYPED) {
                return Err(self.unknown(key, origin));
            }
        }
        Ok(())
    }

    /// Lays flags over them: what [`with_flags`] added and somebody typed.
    #[must_use]
    pub fn with_flags(mut self, matches: &ArgMatches) -> Self {
        for arg in declared().get_arguments() {
            let key = arg.get_id().as_str();
            let known = matches.try_contains_id(key).unwrap_or(false);
            if !known || matches.value_source(key) != Some(ValueSource::CommandLine) {
                continue;
            }
            // An argument of a command that has an option's name by chance is of another type.
            if let Ok(Some(values)) = matches.try_get_many::<String>(key) {
                self.lay(arg, values.cloned().collect(), Origin::Flag(flag(key)));
            }
        }
        self
    }

    /// An empty text unsets what has no default.
    fn lay(&mut self, arg: &Arg, mut values: Vec<String>, origin: Origin) {
        if arg.get_default_values().is_empty() {
            values.retain(|value| !value.trim().is_empty());
        }
        self.0.insert(arg.get_id().to_string(), Setting { values, origin });
    }

    fn unknown(&self, key: String, origin: Origin) -> ConfigError {
        let likeness = |known: &&String| strsim::jaro_winkler(known, &key);
        let similar = self.0.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let similar = similar.filter(|known| likeness(known) >= SIMILAR).cloned();
        let known: Vec<_> = self.0.keys().map(String::as_str).collect();
        ConfigError::UnknownKey { key, origin, similar, known: known.join(", ") }
    }

    fn wrong(&self, key: &str, reason: String) -> ConfigError {
        let setting = self.0.get(key);
        ConfigError::Value {
            key: key.to_owned(),
            value: setting.map(|setting| setting.values.join(", ")).unwrap_or_default(),
            origin: setting.map_or(Origin::Default, |setting| setting.origin.clone()),
            reason,
        }
    }

    /// The arguments of the command line that would set this option.
    fn arguments(key: &str, setting: &Setting) -> Vec<String> {
        setting.values.iter().map(|value| format!("--{}={value}", flag(key))).collect()
    }

    /// What is wrong with one option, taken by itself.
    fn check(&self, key: &str) -> Result<(), ConfigError> {
        let arguments = self.0.get(key).map(|setting| Self::arguments(key, setting)).unwrap_or_default();
        match declared().try_get_matches_from(arguments) {
            Ok(_) => Ok(()),
            Err(error) => {
                let reason = error.source().map_or_else(|| error.kind().to_string(), ToString::to_string);
                Err(self.wrong(key, reason))
            }
        }
    }

    /// Checks and reads every option.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        self.0.keys().try_for_each(|key| self.check(key))?;
        let arguments = self.0.iter().flat_map(|(key, setting)| Self::arguments(key, setting));
        let matches = declared().try_get_matches_from(arguments);
        let config = matches.and_then(|matches| Config::from_arg_matches(&matches));
        // Each was read by itself, so that no error is left that would need the name of an option.
        let config = config.map_err(|error| self.wrong("network", error.kind().to_string()))?;
        let (bound, threshold) = (config.mediator.credit_bound, config.mediator.payout_threshold);
        if bound.get() / 2 < threshold.get() {
            let reason = format!("must be at least twice payout_threshold, which is {threshold}");
            return Err(self.wrong("credit_bound", reason));
        }
        self.with_chain(config)
    }

    #[cfg(feature = "bitcoin")]
    fn with_chain(&self, mut config: Config) -> Result<Config, ConfigError> {
        let chain = super::chain::chain(&config.bitcoin, config.network.network);
        config.chain = chain.map_err(|conflict| self.wrong(conflict.key, conflict.reason))?;
        Ok(config)
    }

    #[cfg(not(feature = "bitcoin"))]
    fn with_chain(&self, config: Config) -> Result<Config, ConfigError> {
        Ok(config)
    }

    /// Each option with its value, origin and meaning, and what is wrong with it.
    #[must_use]
    pub fn explain(&self) -> Vec<Explained> {
        let across = match self.resolve() {
            Err(ConfigError::Value { key, value, origin, reason }) => {
                Some((key.clone(), ConfigError::Value { key, value, origin, reason }.to_string()))
            }
            _ => None,
        };
        let explain = |arg: &Arg| {
            let key = arg.get_id().as_str();
            let setting = self.0.get(key)?;
            let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let across = || across.as_ref().filter(|(of, _)| of == key).map(|(_, problem)| problem.clone());
            let problem = self.check(key).err().map(|error| error.to_string()).or_else(across);
            let (values, origin) = (setting.values.clone(), setting.origin.to_string());
            let (key, is_list) = (key.to_owned(), is_list(arg));
            Some(Explained { key, values, is_list, origin, meaning, problem })
        };
        declared().get_arguments().filter_map(explain).collect()
    }
}
