//! Settings from three places: the defaults in the binary, then a file, then the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Num, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::ConfigError;
use super::known::{self, Known};
use super::{Settings, validate};

/// Every setting with its default and what it means, in TOML.
pub const DEFAULTS: &str = include_str!("../../defaults.toml");

/// The variable that names the file; it is not a setting.
const FILE_VARIABLE: &str = "GATEWAYZEN_CONFIG";
/// The file that is read when none is named, if it exists.
const USUAL_FILE: &str = "gatewayzen.toml";
const ENVIRONMENT: &str = "environment";
/// Settings whose value no message shows.
const SECRET: [&str; 5] = [
    "postgres.url",
    "redis.url",
    "secrets.keys",
    "secrets.wallet_keys",
    "secrets.backup_keys",
];

/// Reads the settings: the defaults, then `file` (or what `GATEWAYZEN_CONFIG` names, or `gatewayzen.toml` here
/// if it exists), then the environment, `GATEWAYZEN_POSTGRES__URL` for `postgres.url`. Later ones win.
///
/// # Errors
/// A file that cannot be read, a key that is not a setting, a value of the wrong kind or out of its range.
pub fn load(file: Option<&Path>) -> Result<Settings, ConfigError> {
    let named = std::env::var_os(FILE_VARIABLE)
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    let usual = || Some(PathBuf::from(USUAL_FILE)).filter(|path| path.exists());
    let file = file.map(Path::to_owned).or(named).or_else(usual);
    read(file.as_deref(), std::env::vars_os())
}

fn read(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, ConfigError> {
    let whole = |problem: String, origin: &str| ConfigError::of("", problem).at(origin);
    let defaults: Dict = Toml::from_str(DEFAULTS).map_err(|e| whole(e.message().to_owned(), "defaults"))?;
    let known = Known::new(&defaults);

    let mut figment = Figment::from(Source {
        origin: "default".into(),
        values: defaults.clone(),
    });
    if let Some(path) = file {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| whole(format!("the configuration file cannot be read: {e}"), &origin))?;
        // The parser's own text quotes the line, which may hold a password: only its place and message are shown.
        let values: Dict = Toml::from_str(&text).map_err(|e| {
            let before = e
                .span()
                .and_then(|span| text.get(..span.start))
                .unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            whole(
                format!("line {line} is not TOML: {}", e.message().replace('\n', ", ")),
                &origin,
            )
        })?;
        known.check_file(&values).map_err(|e| e.at(&origin))?;
        figment = figment.merge(Source { origin, values });
    }
    let values = read_environment(&known, environment)?;
    figment = figment.merge(Source {
        origin: ENVIRONMENT.into(),
        values,
    });

    let origin = |key: &str| {
        let source = figment
            .find_metadata(key)
            .map(|m| m.name.to_string())
            .unwrap_or_default();
        if source == ENVIRONMENT {
            known::variable(key)
        } else {
            source
        }
    };
    let settings: Settings = figment.extract().map_err(|error| {
        let key = error.path.join(".");
        let problem = problem(&key, &error.kind);
        ConfigError {
            origin: origin(&key),
            key,
            problem,
        }
    })?;
    validate::check(&settings).map_err(|error| {
        let origin = origin(&error.key);
        error.at(origin)
    })?;
    Ok(settings)
}

/// Every variable of ours, as values in the shape of the file.
fn read_environment(
    known: &Known<'_>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Dict, ConfigError> {
    let mut values = Dict::new();
    for (name, value) in environment {
        let Ok(name) = name.into_string() else { continue };
        if !name.starts_with(known::PREFIX) || name == FILE_VARIABLE {
            continue;
        }
        let (key, default) = known.of_variable(&name)?;
        let error = |problem: String| ConfigError::of(key, problem).at(name.as_str());
        let text = value
            .into_string()
            .map_err(|_| error("it is not valid UTF-8".into()))?;
        let value = match default {
            // Whatever a text looks like, it stays one: a namespace "{resque}", a password of digits.
            Value::String(..) => Value::from(text),
            Value::Num(_, Num::F64(_)) => Value::from(
                text.parse::<f64>()
                    .map_err(|_| error(format!("expected a number, found \"{text}\"")))?,
            ),
            Value::Num(..) => Value::from(
                text.parse::<i64>()
                    .map_err(|_| error(format!("expected a whole number, found \"{text}\"")))?,
            ),
            Value::Array(..) => composite(&text)
                .filter(|value| value.as_array().is_some())
                .ok_or_else(|| error(format!("expected a list as in [\"a\", \"b\"], found \"{text}\"")))?,
            _ => composite(&text)
                .filter(|value| value.as_dict().is_some())
                .ok_or_else(|| {
                    error(format!(
                        "expected a table as in {{ \"a\" = \"b\" }}, found \"{text}\""
                    ))
                })?,
        };
        known::insert(&mut values, key, value);
    }
    Ok(values)
}

/// A list or a table, in TOML or JSON.
fn composite(text: &str) -> Option<Value> {
    let toml: Option<Dict> = Toml::from_str(&format!("value = {text}")).ok();
    toml.and_then(|mut dict| dict.remove("value"))
        .or_else(|| serde_json::from_str(text).ok())
}

/// What is wrong with a value, in words that need no knowledge of Rust.
fn problem(key: &str, kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let expected = match expected.as_str() {
                "u16" => "a whole number from 0 to 65535",
                "f64" => "a number",
                "u32" | "u64" | "usize" => "a whole number, not below 0",
                "a string" | "string" => "a text in quotes",
                "a sequence" => "a list",
                "a map" => "a table",
                other if other.starts_with("struct ") => "a section of settings",
                other => other,
            };
            let found = match found {
                _ if SECRET.contains(&key) => "something else".to_owned(),
                Actual::Str(text) => format!("the text \"{text}\""),
                Actual::Unsigned(number) => format!("the number {number}"),
                Actual::Signed(number) => format!("the number {number}"),
                Actual::Float(number) => format!("the number {number}"),
                Actual::Bool(truth) => truth.to_string(),
                Actual::Seq => "a list".to_owned(),
                Actual::Map => "a table".to_owned(),
                _ => "something else".to_owned(),
            };
            format!("expected {expected}, found {found}")
        }
        Kind::UnknownVariant(found, names) => {
            let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            format!("expected {}, found \"{found}\"", names.join(" or "))
        }
        Kind::Message(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One of the places that settings come from.
struct Source {
    origin: String,
    values: Dict,
}

impl Provider for Source {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
