//! The Lua scripts, each one atomic step. Every key that they touch begins with the prefix in their first
//! argument; the one key that they declare tells a cluster which node to ask.

use std::sync::LazyLock;

use redis::{Script, ScriptInvocation};

/// A script, and the key that it declares.
pub(crate) struct Lua {
    key: &'static str,
    pub(crate) script: LazyLock<Script>,
}

const fn lua(key: &'static str, load: fn() -> Script) -> Lua {
    Lua {
        key,
        script: LazyLock::new(load),
    }
}

/// What the scripts about jobs in hand share goes before each of them.
fn with_common(text: &str) -> Script {
    Script::new(&[include_str!("lua/common.lua"), text].concat())
}

pub(crate) static STEP: Lua = lua("leases", || with_common(include_str!("lua/step.lua")));
pub(crate) static GIVE_BACK: Lua = lua("leases", || with_common(include_str!("lua/give_back.lua")));
pub(crate) static RENEW: Lua = lua("leases", || with_common(include_str!("lua/renew.lua")));
pub(crate) static REAP: Lua = lua("leases", || with_common(include_str!("lua/reap.lua")));
pub(crate) static PUSH_UNIQUE: Lua = lua("queues", || Script::new(include_str!("lua/push_unique.lua")));
pub(crate) static REMOVE: Lua = lua("queues", || Script::new(include_str!("lua/remove.lua")));
pub(crate) static REQUEUE_FAILED: Lua = lua("failed", || Script::new(include_str!("lua/requeue_failed.lua")));
pub(crate) static PUSH_AT: Lua = lua(SCHEDULE, || Script::new(include_str!("lua/push_at.lua")));
pub(crate) static PROMOTE: Lua = lua(SCHEDULE, || Script::new(include_str!("lua/promote.lua")));
pub(crate) static REMOVE_DELAYED: Lua = lua(SCHEDULE, || Script::new(include_str!("lua/remove_delayed.lua")));

/// The sorted set of the seconds for which jobs are scheduled.
pub(crate) const SCHEDULE: &str = "delayed_queue_schedule";

/// Begins a call of `script` in the namespace of `prefix` (with its colon).
pub(crate) fn call(script: &'static Lua, prefix: &str) -> ScriptInvocation<'static> {
    let mut call = script.script.key(format!("{prefix}{}", script.key));
    call.arg(prefix);
    call
}
