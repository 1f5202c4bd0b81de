//! A swarm, an owner and a folder. Every step that has to work does so or ends the test, with the
//! nodes' logs shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fincrypt_testkit::{
    Client, Comparison, Member, Outcome, Programs, Scratch, SeededRandom, Swarm, SwarmPlan, TreePlan,
    compare, generate,
};
use serde_json::Value;

/// Longest a test waits for what ought to take seconds; generous, as tests share the machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// A single command's limit.
const COMMAND: Duration = Duration::from_secs(120);

/// The nodes, and what the folder holds.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Storage nodes.
    pub storage: usize,
    /// Mediators.
    pub mediators: usize,
    /// What the last of them offers, if not as much as the others. These offer 1 GB then: placement
    /// prefers room, and would pass it by beside much larger ones.
    pub last_capacity: Option<&'static str>,
    /// The folder's contents.
    pub tree: TreePlan,
    /// Seconds that releases wait; the program's default if none.
    pub release_delay: Option<u64>,
    /// Further settings of all nodes, by key; their local interfaces listen then.
    pub settings: &'static [(&'static str, &'static str)],
}

impl Default for Plan {
    /// Eight storage nodes and about 9 MB, a hole of 3 MB included.
    fn default() -> Self {
        Self {
            storage: 8,
            mediators: 1,
            last_capacity: None,
            tree: TreePlan::TEST,
            release_delay: None,
            settings: &[],
        }
    }
}

impl Plan {
    /// The same nodes with little data.
    #[must_use]
    pub fn small() -> Self {
        Self { tree: TreePlan { small_files: 20, large_bytes: 400_000, largest: 300_000 }, ..Self::default() }
    }
}

/// The seed of a test's data: `FINCRYPT_TEST_SEED`, else a new one. Printed, to be seen on failure.
#[must_use]
pub fn seed() -> u64 {
    let given = std::env::var("FINCRYPT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(SeededRandom::any_seed);
    eprintln!("FINCRYPT_TEST_SEED={seed}");
    seed
}

/// A running swarm with an owner whose vault exists and whose folder is full, but not backed up.
#[derive(Debug)]
pub struct World {
    // Fields are dropped in this order: processes first, then their folder.
    /// The nodes.
    pub swarm: Swarm,
    /// The client with the vault.
    pub owner: Client,
    /// The folder to back up.
    pub source: PathBuf,
    /// The file with the 24 words.
    pub words: PathBuf,
    programs: Programs,
    storage: usize,
    scratch: Scratch,
}

impl World {
    /// Starts everything and waits until the mediator knows all storage nodes.
    ///
    /// `program` is both programs in one; `FINCRYPT_BIN_DIR` replaces it by those of a folder.
    ///
    /// # Panics
    /// If something does not start, as does every method here for what has to work.
    #[must_use]
    pub fn start(label: &str, program: &str, plan: Plan) -> Self {
        Self::start_with(label, program, plan, |_, _| ())
    }

    /// The same, after `adapt` was shown the test's folder and has changed the plan of the nodes.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    pub fn start_with(
        label: &str,
        program: &str,
        plan: Plan,
        adapt: impl FnOnce(&Path, &mut SwarmPlan),
    ) -> Self {
        let programs = match std::env::var_os("FINCRYPT_BIN_DIR") {
            Some(folder) => Programs::in_folder(folder.as_ref()).expect("FINCRYPT_BIN_DIR has both programs"),
            None => Programs::multi_call(Path::new(program)),
        };
        let scratch = Scratch::new(label).expect("a scratch folder can be made");
        let source = scratch.path().join("source");
        generate(&source, &plan.tree, seed()).expect("the folder can be filled");
        let folder = scratch.path().join("swarm");
        let swarm = SwarmPlan::new(programs.clone(), folder);
        let mut swarm = SwarmPlan {
            storage: plan.storage,
            mediators: plan.mediators,
            release_delay: plan.release_delay,
            ..swarm
        };
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        swarm.settings = plan.settings.iter().map(owned).collect();
        swarm.api = !plan.settings.is_empty();
        if let Some(last) = plan.last_capacity {
            swarm.capacity = "1GB".to_owned();
            swarm.last_capacity = Some(last.to_owned());
        }
        adapt(scratch.path(), &mut swarm);
        let swarm = Swarm::start(swarm).unwrap_or_else(|error| panic!("the swarm starts: {error}"));
        let owner = Client::new(programs.clone(), swarm.bootstrap(), scratch.path().join("owner"));
        let owner = owner.with_limit(COMMAND);
        let words = scratch.path().join("words");
        let world = Self { swarm, owner, source, words, programs, storage: plan.storage, scratch };
        world.ok(&world.owner, &["init", text(&world.source), "--words-file", text(&world.words)]);
        world.wait_eligible(plan.storage);
        world
    }

    /// A path in the test's own folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The programs under test.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// All storage nodes.
    pub fn storage_nodes(&self) -> impl Iterator<Item = Member> + use<> {
        (0..self.storage).map(Member::Storage)
    }

    /// Waits until the mediator knows exactly so many storage nodes.
    pub fn wait_eligible(&self, nodes: usize) {
        let result = self.swarm.wait_eligible(&self.owner, nodes, DEADLINE);
        result.unwrap_or_else(|error| panic!("{error}"));
    }

    /// What a storage node's local interface says of its storage.
    #[must_use]
    pub fn storage_info(&self, node: Member) -> Value {
        let info = self.swarm.ask(node, "/api/v1/node");
        info.unwrap_or_else(|| panic!("{node} does not answer"))["storage"].take()
    }

    /// What the mediator's local interface says of its segments and storage nodes.
    #[must_use]
    pub fn mediator_info(&self) -> Value {
        let info = self.swarm.ask(Member::Mediator(0), "/api/v1/node");
        info.unwrap_or_else(|| panic!("the mediator does not answer"))["mediator"].take()
    }

    /// Runs a command; any end will do.
    #[must_use]
    pub fn run(&self, client: &Client, arguments: &[&str]) -> Outcome {
        client.run(arguments).unwrap_or_else(|error| panic!("`fincrypt {}`: {error}", arguments.join(" ")))
    }

    /// Runs a command that has to end with `code`.
    pub fn code(&self, client: &Client, arguments: &[&str], code: i32) -> Outcome {
        let outcome = self.run(client, arguments);
        let command = arguments.join(" ");
        let Outcome { stdout, stderr, .. } = &outcome;
        assert_eq!(outcome.code, Some(code), "`fincrypt {command}` printed:\n{stdout}\n{stderr}");
        outcome
    }

    /// Runs a command that has to work, and gives its JSON document.
    pub fn ok(&self, client: &Client, arguments: &[&str]) -> Value {
        let json = self.code(client, arguments, 0).json();
        assert!(json.is_object(), "`fincrypt {}` printed no JSON document", arguments.join(" "));
        json
    }

    /// Takes a snapshot of the folder.
    pub fn backup(&self) -> Value {
        self.ok(&self.owner, &["backup"])
    }

    /// A new machine named `name` that has the words only.
    #[must_use]
    pub fn recover(&self, name: &str) -> Client {
        let machine = self.owner.with_home(self.path(name));
        self.ok(&machine, &["recover", "--words-file", text(&self.words)]);
        machine
    }

    /// Restores a snapshot into a new folder `name`, and tells where the source is in it.
    pub fn restore(&self, client: &Client, snapshot: &str, name: &str) -> PathBuf {
        let target = self.path(name);
        self.ok(client, &["restore", snapshot, "--target", text(&target)]);
        self.inside(&target)
    }

    /// Recovers and restores the latest snapshot on a new machine.
    #[must_use]
    pub fn bring_back(&self, name: &str) -> (Client, PathBuf) {
        let machine = self.recover(name);
        let restored = self.restore(&machine, "latest", &format!("{name}-restored"));
        (machine, restored)
    }

    /// Where the source comes to be below a target.
    #[must_use]
    pub fn inside(&self, target: &Path) -> PathBuf {
        target.join(self.source.file_name().unwrap_or_default())
    }

    /// Ends the test unless the restored folder equals the source.
    pub fn assert_equal(&self, restored: &Path) {
        let comparison = self.compare(restored);
        assert!(comparison.equal(), "{comparison}");
        assert!(comparison.files > 0, "nothing was compared");
    }

    /// Compares a restored folder with the source.
    #[must_use]
    pub fn compare(&self, restored: &Path) -> Comparison {
        compare(&self.source, restored).unwrap_or_else(|error| panic!("cannot compare: {error}"))
    }
}

/// A path of ours, which is UTF-8.
fn text(path: &Path) -> &str {
    path.to_str().expect("the scratch folder's path is UTF-8")
}
