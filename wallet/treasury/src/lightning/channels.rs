use bitcoin::secp256k1::PublicKey;
use fincrypt_protocol::amount::Msat;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::{LightningBalance, NodeError, UserChannelId};

use super::error::LightningError;
use super::node::Lightning;

/// A node and where it listens, `key@host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    id: PublicKey,
    address: SocketAddress,
}

impl Peer {
    /// The node's key.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.to_string()
    }
}

impl std::str::FromStr for Peer {
    type Err = LightningError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || LightningError::Setting { what: "peer (key@host:port)", value: text.to_owned() };
        let (id, address) = text.split_once('@').ok_or_else(refused)?;
        let (id, address) = (id.parse().map_err(|_| refused())?, address.parse().map_err(|_| refused())?);
        Ok(Self { id, address })
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

/// A channel, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its number at this node.
    pub id: u128,
    /// The other end.
    pub peer: String,
    /// Satoshi in it, both sides together.
    pub value_sat: u64,
    /// What can be paid through it now.
    pub can_send: Msat,
    /// What one payment through it can be now: nodes let only a part of a channel be under way.
    pub can_send_once: Msat,
    /// What can come in through it now.
    pub can_receive: Msat,
    /// Whether payments go through it now.
    pub usable: bool,
    /// Whether the network may know of it.
    pub announced: bool,
    /// Blocks on its funding, of as many as it needs.
    pub confirmations: (u32, u32),
}

/// What the node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// Satoshi on the chain.
    pub on_chain_sat: u64,
    /// How many of them may be spent: the rest is unconfirmed, or kept to close channels.
    pub spendable_sat: u64,
    /// Satoshi kept to close channels.
    pub reserve_sat: u64,
    /// Satoshi in channels, on this side.
    pub channels_sat: u64,
}

/// Everything that the node has, at a time when nothing is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// On the chain and in channels, what it would cost to close those included. A channel's part of a
    /// satoshi is rounded.
    pub total: Msat,
    /// How many channels were rounded.
    pub channels: u64,
    /// The newest block it has seen.
    pub height: u32,
}

impl Lightning {
    /// What there is in all; none while a payment, a channel or a transaction is on its way, so that it
    /// cannot be said whose something is.
    #[must_use]
    pub fn holdings(&self) -> Option<Holdings> {
        let balances = self.node.list_balances();
        let kept = balances.spendable_onchain_balance_sats + balances.total_anchor_channels_reserve_sats;
        let channels = self.node.list_channels();
        let quiet = self.in_flight().is_empty()
            && balances.pending_balances_from_channel_closures.is_empty()
            // A reserve that is not there is none that could be spent.
            && balances.total_onchain_balance_sats <= kept
            && channels.iter().all(|channel| channel.is_channel_ready)
            && channels.len() == balances.lightning_balances.len();
        let in_channel = |balance: &LightningBalance| match balance {
            LightningBalance::ClaimableOnChannelClose {
                amount_satoshis,
                transaction_fee_satoshis,
                outbound_payment_htlc_rounded_msat: 0,
                outbound_forwarded_htlc_rounded_msat: 0,
                inbound_claiming_htlc_rounded_msat: 0,
                inbound_htlc_rounded_msat: 0,
                ..
            } => amount_satoshis.checked_add(*transaction_fee_satoshis),
            _ => None,
        };
        let in_channels: Vec<u64> =
            balances.lightning_balances.iter().map(in_channel).collect::<Option<_>>()?;
        let sat = in_channels
            .iter()
            .try_fold(balances.total_onchain_balance_sats, |sum, sat| sum.checked_add(*sat))?;
        quiet.then_some(Holdings {
            total: Msat::new(sat.checked_mul(1000)?),
            channels: channels.len() as u64,
            height: self.node.status().current_best_block.height,
        })
    }

    /// All channels.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelInfo> {
        let info = |channel: ldk_node::ChannelDetails| ChannelInfo {
            id: channel.user_channel_id.0,
            peer: channel.counterparty_node_id.to_string(),
            value_sat: channel.channel_value_sats,
            can_send: Msat::new(channel.outbound_capacity_msat),
            can_send_once: Msat::new(channel.next_outbound_htlc_limit_msat),
            can_receive: Msat::new(channel.inbound_capacity_msat),
            usable: channel.is_usable,
            announced: channel.is_announced,
            confirmations: (channel.confirmations.unwrap_or(0), channel.confirmations_required.unwrap_or(0)),
        };
        self.node.list_channels().into_iter().map(info).collect()
    }

    /// What the node has, on the chain and in channels.
    #[must_use]
    pub fn funds(&self) -> Funds {
        let balances = self.node.list_balances();
        Funds {
            on_chain_sat: balances.total_onchain_balance_sats,
            spendable_sat: balances.spendable_onchain_balance_sats,
            reserve_sat: balances.total_anchor_channels_reserve_sats,
            channels_sat: balances.total_lightning_balance_sats,
        }
    }

    /// A new address of the node's own wallet, from which it funds channels.
    ///
    /// # Errors
    /// [`LightningError::Failed`].
    pub fn funding_address(&self) -> Result<String, LightningError> {
        let address = self.node.onchain_payment().new_address();
        address.map(|address| address.to_string()).map_err(|error| LightningError::Failed(error.to_string()))
    }

    /// Opens a channel of `value_sat`, and gives `push` of it to the peer at once. An announced one
    /// can forward for others, which lets nodes without a channel to this one pay it. Blocks until
    /// the peer is reached; that it is ready comes as an event.
    ///
    /// # Errors
    /// [`LightningError::Channel`].
    pub fn open_channel(
        &self,
        peer: &Peer,
        value_sat: u64,
        push: Msat,
        announced: bool,
    ) -> Result<u128, LightningError> {
        let (id, address, push) = (peer.id, peer.address.clone(), Some(push.get()).filter(|msat| *msat > 0));
        let opened = if announced {
            self.node.open_announced_channel(id, address, value_sat, push, None)
        } else {
            self.node.open_channel(id, address, value_sat, push, None)
        };
        opened.map(|channel| channel.0).map_err(|error| LightningError::Channel {
            peer: peer.to_string(),
            action: "opened",
            reason: match error {
                NodeError::InsufficientFunds => format!(
                    "{} sat can be spent; a channel needs its value, and 25,000 sat kept to close it: send more to the funding address",
                    self.funds().spendable_sat
                ),
                NodeError::ConnectionFailed => "the peer does not answer at that address".to_owned(),
                other => other.to_string(),
            },
        })
    }

    /// Closes a channel: together with the peer if it answers, or alone if `force` says so, which
    /// costs more and takes a day or more.
    ///
    /// # Errors
    /// [`LightningError::NoChannel`] or [`LightningError::Channel`].
    pub fn close_channel(&self, channel: u128, force: bool) -> Result<(), LightningError> {
        let known = self.node.list_channels().into_iter().find(|known| known.user_channel_id.0 == channel);
        let peer = known.ok_or_else(|| LightningError::NoChannel(channel.to_string()))?.counterparty_node_id;
        let id = UserChannelId(channel);
        let closed = if force {
            self.node.force_close_channel(&id, peer, None)
        } else {
            self.node.close_channel(&id, peer)
        };
        closed.map_err(|error| LightningError::Channel {
            peer: peer.to_string(),
            action: "closed",
            reason: error.to_string(),
        })
    }
}
