use aws_lc_rs::digest::{Context, SHA256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Returns the SHA-256 hash of the parts, one after the other.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    hash_of(context)
}

/// Returns the hash of all that went into the context.
#[must_use]
pub fn hash_of(context: Context) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Returns the hash of a leaf.
///
/// Source: RFC 6962 §2.1.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf])
}

/// Returns the hash of a node over two others.
///
/// Source: RFC 6962 §2.1.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// Returns the root of a tree without leaves.
///
/// Source: RFC 6962 §2.1.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}
