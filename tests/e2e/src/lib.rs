//! What the end-to-end tests have in common: a swarm of real processes, an owner with a folder, and
//! ways to compare what comes back. For this workspace's tests only.
//!
//! ```no_run
//! use fincrypt_e2e::{Plan, World};
//!
//! let world = World::start("demo", "target/debug/under-test", Plan::default());
//! world.backup();
//! let (_machine, restored) = world.bring_back("new-machine");
//! world.assert_equal(&restored);
//! ```

mod world;

pub use world::{DEADLINE, Plan, World, seed};
