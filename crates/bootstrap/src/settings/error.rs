//! What is wrong with a configuration.

/// A configuration that cannot be used. Its text is one line: which key, where it was set, what is wrong,
/// and what would be right. It never shows the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting, such as `worker.slots`; empty where a whole file is meant.
    pub key: String,
    /// Where it was set: a file, or an environment variable; empty where that is not known.
    pub origin: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl ConfigError {
    /// An error of one setting, of which the origin is not known.
    pub fn of(key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            key: key.to_owned(),
            origin: String::new(),
            problem: problem.into(),
        }
    }

    pub(super) fn at(mut self, origin: impl Into<String>) -> ConfigError {
        self.origin = origin.into();
        self
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ConfigError { key, origin, problem } = self;
        match (key.is_empty(), origin.is_empty()) {
            (true, _) => write!(f, "{origin}: {problem}"),
            (_, true) => write!(f, "{key}: {problem}"),
            _ => write!(f, "{key} ({origin}): {problem}"),
        }
    }
}

impl std::error::Error for ConfigError {}
