//! Which keys are settings. The defaults name every one, so a key that they do not have is a mistake.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::error::ConfigError;

/// Every variable that begins so is ours.
pub(super) const PREFIX: &str = "GATEWAYZEN_";
/// Tables whose keys are the deployment's own.
const FREE: [&str; 1] = ["ec2.releases"];

/// All settings, by key.
pub(super) struct Known<'a> {
    settings: BTreeMap<String, &'a Value>,
}

impl<'a> Known<'a> {
    pub(super) fn new(defaults: &'a Dict) -> Self {
        let mut settings = BTreeMap::new();
        collect(defaults, "", &mut settings);
        Known { settings }
    }

    /// Sees that a file names only settings.
    pub(super) fn check_file(&self, values: &Dict) -> Result<(), ConfigError> {
        let mut named = BTreeMap::new();
        collect(values, "", &mut named);
        match named
            .keys()
            .find(|key| !self.is_setting(key) && !self.is_section(key))
        {
            None => Ok(()),
            Some(key) => {
                let known = nearest(key, self.settings.keys().cloned());
                Err(self.unknown(key, known))
            }
        }
    }

    /// The setting that a variable sets, and its default.
    pub(super) fn of_variable(&self, name: &str) -> Result<(&str, &'a Value), ConfigError> {
        let mut settings = self.settings.iter();
        if let Some((key, default)) = settings.find(|(key, _)| variable(key) == name) {
            return Ok((key, default));
        }
        let key = name.trim_start_matches(PREFIX).to_lowercase().replace("__", ".");
        let known = nearest(name, self.settings.keys().map(|key| variable(key)));
        Err(self.unknown(&key, known).at(name))
    }

    fn is_setting(&self, key: &str) -> bool {
        let free = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        self.settings.contains_key(key) || FREE.into_iter().any(free)
    }

    /// A section that was given something other than a table (or an empty one) is left to serde.
    fn is_section(&self, key: &str) -> bool {
        self.settings
            .keys()
            .any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }

    fn unknown(&self, key: &str, nearest: Option<String>) -> ConfigError {
        if let Some(nearest) = nearest {
            return ConfigError::of(key, format!("there is no such setting; did you mean {nearest}?"));
        }
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let here: Vec<&str> = self
            .settings
            .keys()
            .filter_map(|known| known.strip_prefix(section)?.strip_prefix('.'))
            .collect();
        if !section.is_empty() && !here.is_empty() {
            return ConfigError::of(
                key,
                format!("there is no such setting; [{section}] has {}", here.join(", ")),
            );
        }
        let mut sections: Vec<&str> = self
            .settings
            .keys()
            .filter_map(|known| known.split('.').next())
            .collect();
        sections.dedup();
        ConfigError::of(
            key,
            format!(
                "there is no such setting; the sections are {}",
                sections.join(", ")
            ),
        )
    }
}

/// The environment variable of a setting.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Puts a value at a dotted key, making the sections on the way.
pub(super) fn insert(values: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            values.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = values
                .entry(section.to_owned())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

/// Keys with a dot for each level; a table that is empty, or free, is a value itself.
fn collect<'a>(values: &'a Dict, prefix: &str, found: &mut BTreeMap<String, &'a Value>) {
    for (name, value) in values {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Dict(_, inner) if !inner.is_empty() && !FREE.contains(&key.as_str()) => {
                collect(inner, &key, found);
            }
            _ => {
                found.insert(key, value);
            }
        }
    }
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, &known), known))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, known)| known)
}
