//! A scheduler that pushes delayed jobs to their queues when they are due. With a number of seconds it also
//! delays a job:
//!
//! ```text
//! cargo run -p resque --example scheduler -- 5
//! ```

use std::time::Duration;

use resque::{Config, Queue, payload, schedule};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), resque::Error> {
    tracing_subscriber::fmt::init();
    let queue = Queue::connect(&Config {
        url: std::env::var("REDIS_URL").unwrap_or(Config::default().url),
        ..Config::default()
    })
    .await?;
    if let Some(seconds) = std::env::args().nth(1).and_then(|text| text.parse().ok()) {
        let job = payload("Hello", &["later".into()]);
        let due = queue.push_in("mail", &job, Duration::from_secs(seconds)).await?;
        println!("scheduled for {due:?}");
    }
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.cancel();
        }
    });
    schedule(queue, stop).await;
    Ok(())
}
