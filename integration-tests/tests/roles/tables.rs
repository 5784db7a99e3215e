//! What each role may do.

use std::collections::BTreeSet;

/// The roles that log in, in the words of the tables below. Each worker is a member of `service`.
pub(crate) const LOGINS: [(&str, &str); 6] = [
    ("app", "gatewayzen_app"),
    ("operator", "gatewayzen_operator"),
    ("service", "gatewayzen_service"),
    ("instance", "gatewayzen_instance_worker"),
    ("ssh", "gatewayzen_ssh_worker"),
    ("wallet", "gatewayzen_wallet_worker"),
];
const WORKERS: [&str; 3] = ["instance", "ssh", "wallet"];

/// Who reads a table; where a column is named, who reads that one.
pub(crate) const READERS: [(&str, &str); 27] = [
    ("_sqlx_migrations", "app operator service"),
    ("states", "app operator service"),
    ("transitions", "app operator service"),
    ("fleet", "app operator service"),
    ("fleet_halts", "app operator service"),
    ("gatewayds", "app operator service"),
    ("gatewayd_history", "app operator service"),
    ("launch_attempts", "operator service"),
    ("launch_attempts.sealed_user_data", "instance"),
    ("launch_attempts.pending_host_key", "operator instance ssh"),
    ("launch_attempts.expected_host_key", "operator instance ssh"),
    ("launch_attempts.host_key_replaced_at", "operator instance ssh"),
    ("launch_attempts.launch_key_erased_at", "operator instance ssh"),
    ("ssh_logins", "operator ssh"),
    ("ssh_key_runs", "operator ssh"),
    ("wallets", "operator service"),
    ("wallet_seeds", "wallet"),
    ("wallet_backups", "operator service"),
    ("host_backups", "operator service"),
    ("decommission_policy", "app operator service"),
    ("api_keys", "wallet"),
    ("resealed", ""),
    ("audit", "operator"),
    ("sweeps", "operator"),
    ("orphans", "operator"),
    ("missed_machines", "operator"),
    ("restores", "operator"),
];

/// What is written past the functions: the front door, and nothing else.
pub(crate) const WRITERS: [(&str, &str, &str); 4] = [
    (
        "INSERT",
        "name state release ami instance_type owner_id changed_why traceparent",
        "app operator",
    ),
    (
        "UPDATE",
        "state release ami instance_type owner_id changed_why traceparent",
        "app operator",
    ),
    ("UPDATE", "hold", "operator"),
    ("DELETE", "", "app operator"),
];

/// Who calls a function. One that is not here is called by nobody who logs in.
pub(crate) const CALLERS: [(&str, &str); 55] = [
    ("new_traceparent", "app operator"),
    ("gatewayds_begin_again", "app operator"),
    ("fleet_is_halted", "operator service"),
    ("works_while_halted", "operator service"),
    ("halt_fleet", "operator"),
    ("resume_fleet", "operator"),
    ("ask_sweep", "operator"),
    ("withdraw_sweep", "operator"),
    ("declare_restored", "operator"),
    ("record_wallet_backup", "operator wallet"),
    ("declare_secret_act", "operator"),
    ("secret_to_reveal", "operator"),
    ("sealed_batch", "operator"),
    ("sealed_counts", "operator"),
    ("reseal", "operator"),
    ("record_host_backup", "ssh"),
    ("allow_termination", "operator"),
    ("terminate_without_backup", "operator"),
    ("set_decommission_policy", "operator"),
    ("claim_due", "service"),
    ("park_overdue", "service"),
    ("check_fault_budget", "service"),
    ("ask_sweep_on_period", "service"),
    ("take_lease", "service"),
    ("renew_lease", "service"),
    ("record_facts", "service"),
    ("finish_step", "service"),
    ("open_launch_attempt", "instance"),
    ("resolve_launch_attempt", "instance"),
    ("end_launch_attempt", "instance"),
    ("claim_sweep", "instance"),
    ("renew_sweep", "instance"),
    ("finish_sweep", "instance"),
    ("compare_machines", "instance"),
    ("end_orphan", "instance"),
    ("rows_without_machine", "instance"),
    ("miss_machines", "instance"),
    ("park_gone", "instance"),
    ("keep_api_key", "ssh"),
    ("keep_wallet", "wallet"),
    ("fleet_figures", "service"),
    ("ask_ssh_key_run", "operator"),
    ("withdraw_ssh_key_run", "operator"),
    ("reset_identity", "operator"),
    ("keep_pending_host_key", "ssh"),
    ("promote_host_key", "ssh"),
    ("forget_launch_key", "ssh"),
    ("pin_host_key", "ssh"),
    ("record_ssh_login", "ssh"),
    ("lease_for_ssh_key", "ssh"),
    ("release_from_ssh_key", "ssh"),
    ("claim_ssh_key_run", "ssh"),
    ("begin_ssh_key_run", "ssh"),
    ("renew_ssh_key_run", "ssh"),
    ("finish_ssh_key_run", "ssh"),
];

/// The logins of one of the tables' words.
pub(crate) fn logins(words: &str) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = words.split_whitespace().map(str::to_owned).collect();
    if all.contains("service") {
        all.extend(WORKERS.map(str::to_owned));
    }
    all
}
