//! Stories of the simulated fleet, told by clients that know nothing of its inside.

mod by_hand;
mod client;
mod ec2;
mod ec2_faults;
mod host_faults;
mod hosts;
mod seeds;
mod trouble;
