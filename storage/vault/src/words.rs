//! The 24 words (BIP-39, English, 256 bits of entropy) and what they alone derive.

use bip39::{Language, Mnemonic};
use fincrypt_protocol::limits::MAX_SLOTS;
use fincrypt_protocol::{SigningKey, domain};
use zeroize::Zeroizing;

use crate::keyfile::VaultKeys;
use crate::root::{Root, expand};

/// The number of words.
const COUNT: usize = 24;

/// The words could not be made or read. No message repeats a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not 24 words.
    #[error("{0} words were given, a vault has 24")]
    Count(usize),
    /// A word that is not in the list.
    #[error("word {0} is not in the BIP-39 list")]
    Unknown(usize),
    /// All words are known, but do not belong together.
    #[error("the words' checksum is wrong")]
    Checksum,
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

/// A vault's 24 words; wiped when dropped.
pub struct Words(Mnemonic);

impl Drop for Words {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl Words {
    /// New words.
    ///
    /// # Errors
    /// [`WordsError::Randomness`].
    pub fn generate() -> Result<Self, WordsError> {
        let mut entropy = Zeroizing::new([0; 32]);
        getrandom::fill(entropy.as_mut_slice()).map_err(|_| WordsError::Randomness)?;
        Mnemonic::from_entropy(entropy.as_slice()).map(Self).map_err(|_| WordsError::Randomness)
    }

    /// Reads words, in any case and with any white space between them.
    ///
    /// # Errors
    /// [`WordsError`], which says what is wrong without repeating a word.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let lower = Zeroizing::new(text.to_lowercase());
        let words: Vec<&str> = lower.split_whitespace().collect();
        if words.len() != COUNT {
            return Err(WordsError::Count(words.len()));
        }
        let phrase = Zeroizing::new(words.join(" "));
        Mnemonic::parse_in_normalized(Language::English, &phrase).map(Self).map_err(|error| match error {
            bip39::Error::UnknownWord(at) => WordsError::Unknown(at + 1),
            _ => WordsError::Checksum,
        })
    }

    /// The words, with one space between them.
    #[must_use]
    pub fn phrase(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.words().collect::<Vec<_>>().join(" "))
    }

    fn entropy(&self) -> Zeroizing<[u8; 32]> {
        let (bytes, _) = self.0.to_entropy_array();
        let bytes = Zeroizing::new(bytes);
        let mut entropy = Zeroizing::new([0; 32]);
        entropy.copy_from_slice(&bytes[..32]);
        entropy
    }

    /// The seed of a Bitcoin wallet with these words (BIP-39, no passphrase), as any wallet derives it.
    #[must_use]
    pub fn bitcoin_seed(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.to_seed_normalized(""))
    }

    /// The guard key of a slot, which cancels deletions. It is never kept on the machine.
    #[must_use]
    pub fn guard(&self, slot: u32) -> SigningKey {
        SigningKey::from_seed(&expand(&self.entropy(), domain::GUARD, &slot.to_le_bytes()))
    }

    /// The key of a slot's heads after the rewind of a sequence. Nothing that the machine had before
    /// derives it.
    #[must_use]
    pub fn rewound_head_key(&self, slot: u32, sequence: u64) -> SigningKey {
        let context = [&slot.to_le_bytes()[..], &sequence.to_le_bytes()].concat();
        SigningKey::from_seed(&expand(&self.entropy(), domain::REWOUND_HEAD_KEY, &context))
    }

    /// What the machine keeps: the root, and the public guard keys of all slots.
    #[must_use]
    pub fn vault_keys(&self) -> VaultKeys {
        let root = Root::from_bytes(&expand(&self.entropy(), domain::ROOT, &[]));
        VaultKeys::new(root, (0..MAX_SLOTS).map(|slot| self.guard(slot).guard_key()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_in_any_case_and_spacing() {
        let words = Words::generate().expect("random");
        let messy = words.phrase().to_uppercase().replace(' ', "\n\t ");
        let back = Words::parse(&messy).map_err(|error| error.to_string());
        assert!(back.is_ok_and(|back| back.phrase() == words.phrase()));
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_a_word() {
        let error = |text: &str| Words::parse(text).err().expect("refused");
        assert_eq!(error("abandon ".repeat(23).as_str()), WordsError::Count(23));
        assert_eq!(error("abandon ".repeat(24).as_str()), WordsError::Checksum);
        let misspelt = format!("{}xyzzy {}", "abandon ".repeat(4), "abandon ".repeat(19));
        assert_eq!(error(&misspelt), WordsError::Unknown(5));
        assert!(!error(&misspelt).to_string().contains("xyzzy"));
    }

    #[test]
    fn derived_keys_are_what_the_fixture_says() {
        let words = Words::parse(&format!("{}art", "abandon ".repeat(23))).map_err(|error| error.to_string());
        let words = words.expect("the words of zero entropy");
        let keys = words.vault_keys();
        let mut text = String::new();
        for slot in [0, 1, 31] {
            let (account, head) = (keys.root.account(slot).account(), keys.head_key(slot).head_key());
            let guard = words.guard(slot).guard_key();
            assert_eq!(keys.guard_key(slot), Some(guard));
            let rewound = words.rewound_head_key(slot, 1_700_000_000).head_key();
            text.push_str(&format!("slot {slot}\naccount {account}\nhead {head}\nguard {guard}\n"));
            text.push_str(&format!("rewound head {rewound}\n"));
        }
        let id = keys.root.blob_id_key().id(b"plaintext");
        let tag = keys.root.tag_key().tag(&fincrypt_protocol::SegmentId::from_bytes([3; 32]));
        text.push_str(&format!("blob {id}\ntag {tag}\n"));
        fincrypt_vectors::check("derivation.txt", &text);
    }
}
