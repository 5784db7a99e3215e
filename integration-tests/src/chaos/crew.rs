//! The services as processes: started, killed, stopped and resumed, told to stop, and started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::world::World;
use crate::harness::ServiceProcess;

/// One place in the crew, taken by one process after the other.
struct Member {
    name: &'static str,
    process: ServiceProcess,
}

/// All processes of a run.
pub(super) struct Crew {
    world: Arc<World>,
    members: Vec<Arc<Mutex<Member>>>,
    /// Peak resident memory of any process of each service, in kB.
    peaks: Arc<std::sync::Mutex<BTreeMap<&'static str, u64>>>,
}

/// How many processes of each service.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Dispatchers.
    pub dispatchers: usize,
    /// Of each of the three workers.
    pub workers: usize,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Kill,
    /// SIGSTOP for longer than a lease, then SIGCONT: a stale worker comes back.
    Freeze,
    /// SIGTERM: it drains.
    Drain,
}

impl Crew {
    /// Starts everybody.
    pub(super) fn start(world: &Arc<World>, size: Size) -> Crew {
        let names = [
            ("dispatcher", size.dispatchers),
            ("instance-worker", size.workers),
            ("ssh-worker", size.workers),
            ("wallet-worker", size.workers),
        ];
        let members = names
            .into_iter()
            .flat_map(|(name, count)| (0..count).map(move |_| name))
            .map(|name| {
                let process = world.bed.start(name);
                Arc::new(Mutex::new(Member { name, process }))
            })
            .collect();
        Crew {
            world: world.clone(),
            members,
            peaks: Arc::default(),
        }
    }

    /// Peak resident memory of any process of each service, in kB.
    pub(super) fn peaks(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.peaks).clone()
    }

    /// Processor time that the processes of each service have used so far, in seconds.
    pub(super) async fn processor_seconds(&self) -> BTreeMap<&'static str, f64> {
        let mut used = BTreeMap::<&'static str, f64>::new();
        for member in &self.members {
            let member = member.lock().await;
            *used.entry(member.name).or_default() +=
                processor_seconds_of(member.process.pid()).unwrap_or_default();
        }
        used
    }

    /// Looks at each process's memory, and sees that it runs.
    pub(super) async fn look(&self) {
        for member in &self.members {
            // In somebody's hand: it is looked at there.
            let Ok(mut member) = member.try_lock() else {
                continue;
            };
            self.see_alive(&mut member);
        }
    }

    /// Measures a process. One that ended by itself is told as broken, and started again.
    fn see_alive(&self, member: &mut Member) {
        if let Some(code) = member.process.ended_already() {
            let name = member.name;
            self.world
                .tally
                .broken(format!("{name} ended by itself, exit status {code:?}"));
            member.process = self.world.bed.start(name);
        }
        self.measure(member);
    }

    fn measure(&self, member: &Member) {
        if let Some(kb) = peak_of(member.process.pid()) {
            let mut peaks = lock(&self.peaks);
            let peak = peaks.entry(member.name).or_default();
            *peak = (*peak).max(kb);
        }
    }

    /// Does something to somebody every so often, until told to stop; everybody runs again at the end.
    pub(super) async fn trouble(&self, mut random: fastrand::Rng, stop: &CancellationToken) {
        let mut deeds = futures_util::stream::FuturesUnordered::new();
        loop {
            let pause = Duration::from_millis(random.u64(300..2500));
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                Some(()) = futures_util::StreamExt::next(&mut deeds), if !deeds.is_empty() => continue,
            }
            let member = self.members[random.usize(..self.members.len())].clone();
            // Somebody's hands are on it already.
            if let Ok(member) = member.try_lock_owned() {
                let deed = match random.u32(..10) {
                    0..5 => Deed::Kill,
                    5..8 => Deed::Drain,
                    _ => Deed::Freeze,
                };
                let away = Duration::from_millis(random.u64(0..3000));
                deeds.push(self.do_to(member, deed, away));
            }
        }
        while futures_util::StreamExt::next(&mut deeds).await.is_some() {}
    }

    async fn do_to(&self, mut member: tokio::sync::OwnedMutexGuard<Member>, deed: Deed, away: Duration) {
        self.see_alive(&mut member);
        let (tally, name) = (&self.world.tally, member.name);
        match deed {
            Deed::Kill => {
                tally.count(format!("SIGKILL {name}"));
                member.process.kill().await;
                tokio::time::sleep(away).await;
                member.process = self.world.bed.start(name);
            }
            Deed::Drain => {
                tally.count(format!("SIGTERM {name}"));
                member.process.signal("TERM").await;
                let code = member.process.ended().await;
                // 130 and the like would be an end by a signal; a drained service says that all is well.
                if code != Some(0) {
                    tally.broken(format!("{name} was told to stop and ended with {code:?}"));
                }
                tokio::time::sleep(away).await;
                member.process = self.world.bed.start(name);
            }
            Deed::Freeze => {
                tally.count(format!("SIGSTOP {name}"));
                member.process.signal("STOP").await;
                tokio::time::sleep(Duration::from_secs(6) + away).await;
                member.process.signal("CONT").await;
            }
        }
    }

    /// Ends everybody at once.
    pub(super) async fn end(self) {
        for member in &self.members {
            member.lock().await.process.kill().await;
        }
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The most memory that a process ever held (VmHWM), in kB.
fn peak_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The processor time that a process has used, in its own code and in the kernel, in seconds.
fn processor_seconds_of(pid: u32) -> Option<f64> {
    /// USER_HZ: on Linux always 100.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything, from the state on: utime and stime are the 12th and 13th.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_A_SECOND)
}
