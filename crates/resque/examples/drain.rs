//! Measures how fast a worker drains a queue of jobs that do nothing:
//!
//! ```text
//! cargo run --release -p resque --example drain -- redis://127.0.0.1:6379 bench 100 200000 [queue]
//! ```
//!
//! Jobs that are missing to the number are pushed first. It prints one line of `name=value`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use resque::{Config, Failure, Gate, Handler, Job, Push, Queue, WorkerConfig, payload, work};
use tokio_util::sync::CancellationToken;

/// Does nothing, and ends the worker after the last job.
struct Nothing {
    left: AtomicUsize,
    done: CancellationToken,
}

impl Handler for Nothing {
    async fn run(&self, _job: Job) -> Result<(), Failure> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.cancel();
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, namespace, slots, jobs, rest @ ..] = args.as_slice() else {
        return Err("usage: drain URL NAMESPACE SLOTS JOBS [QUEUE]".into());
    };
    let name = rest.first().map_or("bench", String::as_str);
    let (slots, jobs): (usize, usize) = (slots.parse()?, jobs.parse()?);
    if jobs == 0 {
        return Err("JOBS must be above 0".into());
    }
    let config = Config {
        url: url.clone(),
        namespace: namespace.clone(),
        ..Config::default()
    };
    let queue = Queue::connect(&config).await?;
    let missing = jobs.saturating_sub(queue.len(name).await?);
    let numbers: Vec<usize> = (0..missing).collect();
    let began = Instant::now();
    // In parts, so that the memory measured below is the worker's.
    for numbers in numbers.chunks(10_000) {
        let pushes: Vec<Push> = numbers
            .iter()
            .map(|number| Push {
                queue: name.to_owned(),
                payload: payload("Nothing", &[(*number).into()]),
            })
            .collect();
        queue.push_many(&pushes).await?;
    }
    let pushed_per_second = missing as f64 / began.elapsed().as_secs_f64();
    drop(numbers);

    let done = CancellationToken::new();
    let handler = Nothing {
        left: AtomicUsize::new(jobs),
        done: done.clone(),
    };
    let worker = WorkerConfig {
        queues: vec![name.to_owned()],
        slots,
        ..WorkerConfig::default()
    };
    let (began, cpu) = (Instant::now(), cpu()?);
    work(queue.clone(), worker, handler, Gate::new(), done).await?;
    let (took, cpu) = (began.elapsed(), self::cpu()? - cpu);
    println!(
        "slots={slots} jobs={jobs} seconds={:.3} jobs_per_second={:.0} cpu_us_per_job={:.2} rss_kb={} pushed={missing} pushed_per_second={pushed_per_second:.0}",
        took.as_secs_f64(),
        jobs as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / jobs as f64,
        rss_kb()?,
    );
    Ok(())
}

/// The processor time of this process, in steps of a hundredth of a second.
fn cpu() -> Result<Duration, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may hold blanks; utime and stime are the 12th and 13th field after it.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |place: usize| -> Result<u64, Box<dyn std::error::Error>> {
        Ok(fields.get(place).ok_or("short /proc/self/stat")?.parse()?)
    };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// The memory in use.
fn rss_kb() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?)
}
