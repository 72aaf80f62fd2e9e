use aesp_identity::{ApiKey, MalformedCredential, RefreshToken, Secret};
use aesp_proto::{Entropy, TenantId, TokenId};
use proptest::prelude::*;

fn key(tenant: [u8; 16], id: [u8; 16], secret: [u8; 32]) -> ApiKey {
    ApiKey::new(TenantId::from_bytes(tenant), TokenId::from_bytes(id), Secret::from_bytes(secret))
}

#[test]
fn the_text_is_fixed_for_ever() {
    let text = key([1; 16], [2; 16], [3; 32]).reveal();
    assert_eq!(
        text.as_str(),
        "aesp_040g2081040g2081040g2081041040g2081040g2081040g2081060o30c1g60o30c1g60o30c1g60o30c1g60o30c1g60o30c1g60p22h45s"
    );
}

#[test]
fn kinds_are_not_mistaken_for_each_other() {
    let entropy = Entropy::from_seed(1);
    let (tenant, id) = (TenantId::random(&entropy), TokenId::random(&entropy));
    let secret = Secret::generate().unwrap();
    let api_key = ApiKey::new(tenant, id, secret.clone()).reveal();
    let token = RefreshToken::new(tenant, id, secret).reveal();
    assert!(matches!(token.parse::<ApiKey>(), Err(MalformedCredential::Prefix { .. })));
    // Even with the prefix exchanged, the checksum tells.
    let renamed = api_key.replace("aesp_", "aespr_");
    assert!(matches!(renamed.parse::<RefreshToken>(), Err(MalformedCredential::Checksum { .. })));
}

#[test]
fn a_secret_is_not_shown() {
    let key = key([1; 16], [2; 16], [0xAB; 32]);
    let shown = format!("{key:?} {:?}", key.secret());
    assert!(shown.contains("redacted"));
    let text = key.reveal();
    for shape in ["abab", "ABAB", "171", &text[60..80]] {
        assert!(!shown.contains(shape), "{shown} has {shape}");
    }
}

proptest! {
    #[test]
    fn the_text_round_trips(tenant: [u8; 16], id: [u8; 16], secret: [u8; 32]) {
        let key = key(tenant, id, secret);
        let back: ApiKey = key.reveal().parse().unwrap();
        prop_assert_eq!((back.tenant(), back.id()), (key.tenant(), key.id()));
        prop_assert_eq!(back.secret(), key.secret());
    }

    #[test]
    fn any_other_text_is_refused(text in "(aesp_|aespr_)?[0-9a-v]{0,120}|.{0,130}") {
        if let Ok(key) = text.parse::<ApiKey>() {
            prop_assert_eq!(key.reveal().to_string(), text.clone());
        }
        if let Ok(token) = text.parse::<RefreshToken>() {
            prop_assert_eq!(token.reveal().to_string(), text.clone());
        }
    }

    #[test]
    fn one_wrong_character_is_a_typing_error(secret: [u8; 32], at in 0_usize..114, to in "[0-9a-v]") {
        let text = key([9; 16], [8; 16], secret).reveal();
        let mut typed = text.to_string();
        typed.replace_range(at..=at, &to);
        match typed.parse::<ApiKey>() {
            Ok(key) => prop_assert_eq!(key.reveal(), text, "nothing changed"),
            Err(MalformedCredential::Prefix { .. }) => prop_assert!(at < 5),
            Err(_) => prop_assert!(at >= 5),
        }
    }
}
