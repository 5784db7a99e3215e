//! The names by which a worker's slots are registered.

use crate::WorkerConfig;

/// The ids of one worker process, `<host>.rs<random>:<pid>:<queues>`, and of its slots, each of which is a
/// worker to other clients: `<host>.rs<random>:<pid>+<slot>:<queues>`.
///
/// The random part is new with each start. It keeps Ruby's start-up check for dead workers of its own
/// host away, and two processes apart that share host name and pid, as containers do.
pub(crate) struct Ids {
    process: String,
    slots: Vec<String>,
}

/// What the host part of our ids ends with, before the eight random digits.
const MARK: &str = ".rs";

impl Ids {
    pub(crate) fn new(config: &WorkerConfig) -> Self {
        let host = host();
        let random = fastrand::u32(..);
        let pid = std::process::id();
        let queues = config.queues.join(",");
        let id = |slot| format!("{host}{MARK}{random:08x}:{pid}+{slot}:{queues}");
        Self {
            process: format!("{host}{MARK}{random:08x}:{pid}:{queues}"),
            slots: (0..config.slots).map(id).collect(),
        }
    }

    /// The id under which jobs in hand and the lease are kept.
    pub(crate) fn process(&self) -> &str {
        &self.process
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.slots
    }

    /// The id of a slot; empty for a slot that does not exist.
    pub(crate) fn of(&self, slot: usize) -> &str {
        self.slots.get(slot).map_or("", String::as_str)
    }
}

/// Whether an id was made here, by any process: only those do we ever remove when they fall silent.
pub(crate) fn is_ours(id: &str) -> bool {
    let mut parts = id.splitn(3, ':');
    let (Some(host), Some(process), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some((_, random)) = host.rsplit_once(MARK) else {
        return false;
    };
    random.len() == 8 && random.bytes().all(|digit| digit.is_ascii_hexdigit()) && process.contains('+')
}

/// The host's name, with nothing in it that would divide an id or a page's address.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
                c
            } else {
                '-'
            }
        })
        .collect();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_ids_are_told_from_those_of_others() {
        let config = WorkerConfig {
            queues: vec!["a".into(), "b:c".into()],
            slots: 2,
            ..WorkerConfig::default()
        };
        let ids = Ids::new(&config);
        assert!(ids.of(1).ends_with("+1:a,b:c"), "{}", ids.of(1));
        assert!(is_ours(ids.of(0)));
        assert_ne!(Ids::new(&config).of(0), ids.of(0));
        for foreign in [
            "host:12:q",
            "host:12+3:q",
            "vm.rs:12+3:q",
            "solo",
            "h.rs0011zz22:1+1:q",
        ] {
            assert!(!is_ours(foreign), "{foreign}");
        }
    }
}
