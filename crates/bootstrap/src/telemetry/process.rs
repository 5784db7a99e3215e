//! What this process costs, as Linux tells it.

use std::time::Instant;

use super::metrics::{self, KeyValue};

/// Clock ticks a second in `/proc`: Linux shows 100 to every program, whatever its own clock.
const TICKS: f64 = 100.0;

/// Metrics that every service has, by the names that OpenTelemetry and Prometheus give them.
pub(super) fn measure() {
    let begun = Instant::now();
    metrics::gauge("process.uptime", "s", "Since when the process runs.", move || {
        [(begun.elapsed().as_secs_f64(), vec![])]
    });
    metrics::total(
        "process.cpu.time",
        "s",
        "Processor time that the process has used.",
        || cpu_seconds().map(|seconds| (seconds, vec![])),
    );
    metrics::gauge(
        "process.memory.usage",
        "By",
        "Resident memory of the process.",
        || resident_bytes().map(|bytes| (bytes, vec![])),
    );
    metrics::gauge(
        "process.open_fds",
        "",
        "Files and sockets that the process has open.",
        || {
            let open = std::fs::read_dir("/proc/self/fd").map(Iterator::count);
            open.ok().map(|open| (open as f64, vec![]))
        },
    );
    metrics::gauge(
        "gatewayzen.build.info",
        "",
        "Always 1; the label says which version runs.",
        || [(1.0, vec![KeyValue::new("version", env!("CARGO_PKG_VERSION"))])],
    );
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // "PID (NAME) STATE …": a name may hold anything. User and system time are the fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_what_the_process_costs() {
        let before = cpu_seconds().unwrap();
        let begun = Instant::now();
        // Asking costs time itself; on a busy machine it may be long until one tick of it is ours.
        let after = loop {
            let now = cpu_seconds().unwrap();
            if now > before {
                break now;
            }
            assert!(begun.elapsed().as_secs() < 60, "{before}");
        };
        assert!(after < before + 60.0, "{before} {after}");
        let resident = resident_bytes().unwrap();
        assert!(resident > 1e6 && resident < 1e10, "{resident}");
    }
}
