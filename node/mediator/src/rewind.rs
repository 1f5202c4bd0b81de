//! Rewinds: the owner's guard replaces the head key, and the account's head with it.

use std::sync::Arc;

use fincrypt_protocol::{NodeId, Refusal, Rewound, UnixTime};
use fincrypt_state::kv::Batch;

use super::MediatorRole;

impl MediatorRole {
    /// Takes a rewind, whoever brings it: the guard's signature suffices. An account that is new here
    /// must have logged in.
    pub(super) async fn rewind(self: &Arc<Self>, from: NodeId, rewound: &Rewound) -> Result<(), Refusal> {
        let now = UnixTime::now();
        let account = rewound.rewind.verify(self.network, now).map_err(|_| Refusal::Invalid)?.account;
        let new = tokio::task::block_in_place(|| {
            let known = match self.accounts.registration(&account)? {
                Some(known) => known,
                None => {
                    let login = self.sessions.registration(&from).filter(|login| login.account == account);
                    login.ok_or(Refusal::NotHeld)?
                }
            };
            let new = rewound.verify(self.network, &known.guard_key, now).map_err(|_| Refusal::Invalid)?;
            self.accounts.register(&known)?;
            let _one = self.swapping.lock();
            let mut batch = Batch::default();
            if !self.accounts.admit_rewind(&known, &new, &mut batch)? {
                return Ok::<_, Refusal>(false);
            }
            // What the old key released is void. First: a rewind that is known is not carried out again.
            self.releases.void(&account)?;
            self.records.replace_head(&account, &rewound.base, &mut batch)?;
            let holders = self.records.holders(&account, usize::MAX)?;
            self.notices.put_rewind(&account, &holders, &new, batch)?;
            Ok(true)
        })?;
        if new {
            self.deliver_soon(account);
        }
        Ok(())
    }
}
