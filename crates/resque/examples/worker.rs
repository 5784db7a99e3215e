//! A worker that prints the jobs of a queue:
//!
//! ```text
//! cargo run -p resque --example worker -- mail
//! redis-cli rpush resque:queue:mail '{"class":"Hello","args":["you"]}'
//! ```

use resque::{Config, Failure, Gate, Handler, Job, Queue, WorkerConfig, work};
use tokio_util::sync::CancellationToken;

struct Print;

impl Handler for Print {
    async fn run(&self, job: Job) -> Result<(), Failure> {
        println!("{} {:?}", job.class, job.args);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), resque::Error> {
    tracing_subscriber::fmt::init();
    let config = Config {
        url: std::env::var("REDIS_URL").unwrap_or(Config::default().url),
        ..Config::default()
    };
    let queues: Vec<String> = std::env::args().skip(1).collect();
    let worker = WorkerConfig {
        queues: if queues.is_empty() {
            vec!["*".to_owned()]
        } else {
            queues
        },
        ..WorkerConfig::default()
    };
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.cancel();
        }
    });
    let queue = Queue::connect(&config).await?;
    work(queue, worker, Print, Gate::new(), stop).await
}
