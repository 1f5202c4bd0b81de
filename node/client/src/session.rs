//! A client's session: joins the swarm once and logs in with the vault's mediator once, for all
//! steps of one use case.

pub(crate) mod error;

use fincrypt_net::{Engine, EngineSetup, Identity, Inboxes, Net, Role, Roles, Setup};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::error::ClientError;
use crate::login::log_in;
use crate::mediator_client::MediatorClient;
use crate::options::ClientOptions;
use crate::vault::Vault;
pub use error::SessionError;

/// Bytes of inbound payload of a client that serves nobody.
const CLIENT_INTAKE: usize = 1 << 20;

/// One membership in the swarm and at most one login. [`Session::close`] leaves in order; a session
/// that is dropped, as by an error between, ends its engine.
pub(crate) struct Session {
    /// The engine's handle.
    pub(crate) net: Net,
    engine: Option<JoinHandle<()>>,
    /// Held during a login, as a second one would end the first.
    login: Mutex<Option<MediatorClient>>,
}

/// Runs a use case in a session of its own, and leaves the swarm whatever comes of it.
///
/// # Errors
/// If the swarm cannot be joined, and what the use case returns.
pub(crate) async fn in_session<T>(
    options: &ClientOptions,
    use_case: impl AsyncFnOnce(&Session) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let session = Session::open(options).await?;
    let result = use_case(&session).await;
    session.close().await;
    result
}

/// Runs a use case over a vault in a session of its own. Its state is written out afterwards.
///
/// # Errors
/// If the swarm cannot be joined, and what the use case returns.
pub(crate) async fn with_vault<T>(
    vault: &Vault,
    use_case: impl AsyncFnOnce(&Session) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let result = in_session(&vault.options, use_case).await;
    vault.state.close();
    result
}

impl Session {
    /// Starts an engine with a fresh identity and joins by the configured first contacts.
    ///
    /// # Errors
    /// If none is configured, or none answers.
    pub(crate) async fn open(options: &ClientOptions) -> Result<Self, SessionError> {
        if options.bootstrap.is_empty() {
            return Err(SessionError::NoBootstrap);
        }
        let behaviour = Setup {
            network: options.network,
            roles: Roles::new([Role::Client]),
            intake: CLIENT_INTAKE,
            mdns: options.mdns,
            upnp: false,
        };
        let keypair = Identity::fresh()?.keypair;
        let setup = EngineSetup { behaviour, keypair, listen: Vec::new(), inboxes: Inboxes::default() };
        let (engine, net, ..) = Engine::start(setup).await?;
        let engine = Some(tokio::spawn(engine.run()));
        let session = Self { net, engine, login: Mutex::default() };
        let mut last = None;
        let mut joined = false;
        for address in &options.bootstrap {
            match session.net.join(address.clone()).await {
                Ok(_) => joined = true,
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if !joined => Err(error.into()),
            _ => Ok(session),
        }
    }

    /// The session's login with the vault's mediator: made at the first call, shared by all later
    /// ones.
    ///
    /// # Errors
    /// If no mediator accepts the login; the next call tries again.
    pub(crate) async fn mediator(&self, vault: &Vault) -> Result<MediatorClient, ClientError> {
        let mut login = self.login.lock().await;
        if let Some(mediator) = &*login {
            return Ok(mediator.clone());
        }
        let mediator = log_in(vault, &self.net).await?;
        *login = Some(mediator.clone());
        Ok(mediator)
    }

    /// Forgets the login: the next step finds the vault's mediator again, which may be another one.
    pub(crate) async fn forget_login(&self) {
        *self.login.lock().await = None;
    }

    /// Leaves the swarm.
    pub(crate) async fn close(mut self) {
        self.net.stop().await;
        if let Some(engine) = self.engine.take() {
            let _ = engine.await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.abort();
        }
    }
}
