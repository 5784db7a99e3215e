//! What the wallet-worker measures beside its steps and requests.

use std::sync::LazyLock;

use gatewayzen_bootstrap::telemetry::metrics::{self, Counter, KeyValue};

static CHECKS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    let checks = metrics::counter(
        "gatewayzen.wallet.checks",
        "Looks at a server's cold wallet: ours, none, another, or no answer that tells.",
    );
    // A rate knows no series that was not there before its first event.
    for result in ["ours", "none", "another", "no_answer"] {
        checks.add(0, &[KeyValue::new("result", result)]);
    }
    checks
});

pub(crate) fn count_check(seen: &'static str) {
    CHECKS.add(1, &[KeyValue::new("result", seen)]);
}
