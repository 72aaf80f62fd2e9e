use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use aesp_storage::Error;
use aws_lc_rs::rand;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11 as Module},
    error::{Error as Pkcs11Error, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};

use super::{Pkcs11Config, failure::told};
use crate::SecretText;

const IV_BYTES: usize = 12;
const TAG_BITS: u64 = 128;
const KEY_BYTES: u64 = 32;

/// A session with the token. Blocks: to be used from threads that may.
pub(super) struct Token {
    session: Session,
    key: String,
}

/// A PIN that was refused. Each further try would bring the token nearer to its lock.
#[derive(Default)]
pub(super) struct RefusedPin(Option<SecretText>);

/// Returns the module, loaded once a process: PKCS#11 has one state for each.
fn module(path: &Path) -> Result<Module, Error> {
    static LOADED: OnceLock<Mutex<HashMap<PathBuf, Module>>> = OnceLock::new();
    let mut loaded = LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = loaded.get(path) {
        return Ok(module.clone());
    }
    let unusable = |error: Pkcs11Error| {
        Error::KeyProvider(format!("the PKCS#11 module {} can't be used: {error}", path.display()))
    };
    let module = Module::new(path).map_err(unusable)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(unusable(error)),
    }
    loaded.insert(path.to_owned(), module.clone());
    Ok(module)
}

impl Token {
    /// Finds the token and logs in.
    pub(super) fn open(config: &Pkcs11Config, refused: &mut RefusedPin) -> Result<Self, Error> {
        let module = module(&config.module)?;
        let slots = module.get_slots_with_initialized_token();
        let slots = slots.map_err(|error| told(error, "the tokens can't be listed"))?;
        let slot = slots.into_iter().find(|slot| {
            module.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == config.token)
        });
        let slot = slot.ok_or_else(|| {
            Error::KeyProviderAway(format!("no token with the label {} is there", config.token).into())
        })?;
        let session =
            module.open_rw_session(slot).map_err(|error| told(error, "no session can be opened"))?;
        let reference = config.pin.as_ref();
        let reference = reference.ok_or_else(|| Error::KeyProviderDenied("there is no PIN".into()))?;
        let pin =
            reference.read_here().map_err(|error| Error::KeyProviderDenied(error.to_string().into()))?;
        if refused.0.as_ref() == Some(&pin) {
            let why =
                format!("the PIN of {reference} was refused, and is not tried again until it is another");
            return Err(Error::KeyProviderDenied(why.into()));
        }
        match session.login(UserType::User, Some(&AuthPin::new(pin.expose().into()))) {
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => {
                if matches!(error, Pkcs11Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange, _)) {
                    refused.0 = Some(pin);
                }
                return Err(told(error, &format!("login at the token {}", config.token)));
            }
        }
        refused.0 = None;
        Ok(Self { session, key: config.key.clone() })
    }

    /// Returns the versions of the key, the newest first.
    fn versions(&self) -> Result<Vec<(u64, ObjectHandle)>, Error> {
        let wanted = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Label(self.key.as_bytes().to_vec()),
        ];
        let found = self.session.find_objects(&wanted).map_err(|error| told(error, "keys can't be found"))?;
        let mut versions = Vec::new();
        for handle in found {
            let attributes = self.session.get_attributes(handle, &[AttributeType::Id]);
            for attribute in attributes.map_err(|error| told(error, "a key can't be read"))? {
                if let Attribute::Id(id) = attribute
                    && let Some(version) = number(&id)
                {
                    versions.push((version, handle));
                }
            }
        }
        versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        Ok(versions)
    }

    pub(super) fn current(&self) -> Result<u64, Error> {
        self.newest().map(|(version, _)| version)
    }

    fn newest(&self) -> Result<(u64, ObjectHandle), Error> {
        self.versions()?.first().copied().ok_or_else(|| {
            Error::KeyProvider(format!(
                "the token has no AES key with the label {} and a number as CKA_ID; make it: pkcs11-tool --keygen \
                 --key-type aes:32 --label {} --id 01 --sensitive",
                self.key, self.key
            ))
        })
    }

    /// Makes sure that the newest key can't leave the token.
    pub(super) fn check(&self) -> Result<(), Error> {
        let (version, handle) = self.newest()?;
        let asked = [AttributeType::Sensitive, AttributeType::Extractable];
        let attributes = self.session.get_attributes(handle, &asked);
        for attribute in attributes.map_err(|error| told(error, "a key can't be read"))? {
            if matches!(attribute, Attribute::Sensitive(false) | Attribute::Extractable(true)) {
                return Err(Error::KeyProvider(format!(
                    "version {version} of the key {} can leave the token; make one that is sensitive and not extractable",
                    self.key
                )));
            }
        }
        Ok(())
    }

    /// Returns the version and `iv (12) | ciphertext | tag (16)`.
    pub(super) fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<(u64, Vec<u8>), Error> {
        let (version, handle) = self.newest()?;
        let mut iv = [0; IV_BYTES];
        rand::fill(&mut iv).map_err(|_| Error::KeyProvider("the system gives no randomness".into()))?;
        let sealed = self.session.encrypt(&gcm(&mut iv, aad)?, handle, key);
        let sealed = sealed.map_err(|error| told(error, "wrapping"))?;
        // Read after the use: some modules put an initialisation vector of their own in its place.
        Ok((version, [iv.as_slice(), &sealed].concat()))
    }

    pub(super) fn unwrap(&self, version: u64, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let versions = self.versions()?;
        let found = versions.iter().find(|(known, _)| *known == version);
        let (_, handle) = found.ok_or_else(|| {
            Error::MasterKeyGone(
                format!("version {version} of the key {} is not on the token", self.key).into(),
            )
        })?;
        let (iv, sealed) = sealed.split_first_chunk::<IV_BYTES>().ok_or(Error::WrongMasterKey)?;
        let mut iv = *iv;
        match self.session.decrypt(&gcm(&mut iv, aad)?, *handle, sealed) {
            Ok(opened) => Ok(opened),
            // Some modules say no more of what is not authentic. If the key works, it is that.
            Err(Pkcs11Error::Pkcs11(RvError::GeneralError | RvError::FunctionFailed, _))
                if self.works(*handle) =>
            {
                Err(Error::WrongMasterKey)
            }
            Err(error) => Err(told(error, "unwrapping")),
        }
    }

    /// Tells whether a key still wraps and unwraps.
    fn works(&self, handle: ObjectHandle) -> bool {
        let mut iv = [0; IV_BYTES];
        if rand::fill(&mut iv).is_err() {
            return false;
        }
        let text = b"does it work";
        let sealed = gcm(&mut iv, &[]).ok().and_then(|gcm| self.session.encrypt(&gcm, handle, text).ok());
        let opened = sealed.and_then(|sealed| {
            let gcm = gcm(&mut iv, &[]).ok()?;
            self.session.decrypt(&gcm, handle, &sealed).ok()
        });
        opened.as_deref() == Some(text)
    }

    /// Generates the next version on the token.
    pub(super) fn rotate(&self) -> Result<u64, Error> {
        let version = self.versions()?.first().map_or(0, |(version, _)| *version).checked_add(1);
        let version = version.ok_or_else(|| Error::KeyProvider("the key has no further version".into()))?;
        let id: Vec<u8> = version.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        let template = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::ValueLen(KEY_BYTES.into()),
            Attribute::Label(self.key.as_bytes().to_vec()),
            Attribute::Id(id),
        ];
        let made = self.session.generate_key(&Mechanism::AesKeyGen, &template);
        made.map_err(|error| told(error, "a new version of the key"))?;
        Ok(version)
    }
}

fn gcm<'a>(iv: &'a mut [u8], aad: &'a [u8]) -> Result<Mechanism<'a>, Error> {
    let parameters = GcmParams::new(iv, aad, TAG_BITS.into());
    let parameters =
        parameters.map_err(|error| Error::KeyProvider(format!("AES-GCM can't be used: {error}")))?;
    Ok(Mechanism::AesGcm(parameters))
}

/// Reads an id as a number, if it is one.
fn number(id: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(8_usize.checked_sub(id.len())?..)?.copy_from_slice(id);
    Some(u64::from_be_bytes(bytes)).filter(|number| *number > 0)
}
