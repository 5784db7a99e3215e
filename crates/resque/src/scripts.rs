//! The Lua scripts, each one atomic step of the delivery. Every key that they touch begins with the
//! prefix in their first argument; the one key that they declare tells a cluster which node to ask.

use std::sync::LazyLock;

use redis::{Script, ScriptInvocation};

pub(crate) static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/claim.lua")));
pub(crate) static FINISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/finish.lua")));
pub(crate) static GIVE_BACK: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/give_back.lua")));
pub(crate) static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/renew.lua")));
pub(crate) static REAP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/reap.lua")));
pub(crate) static PUSH_UNIQUE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/push_unique.lua")));
pub(crate) static REQUEUE_FAILED: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/requeue_failed.lua")));

/// Begins a call of `script` in the namespace of `prefix` (with its colon).
pub(crate) fn call(script: &'static Script, prefix: &str) -> ScriptInvocation<'static> {
    let mut call = script.key(format!("{prefix}leases"));
    call.arg(prefix);
    call
}
