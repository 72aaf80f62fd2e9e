//! Whatever is done to an export, the verifier finds it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

use std::sync::{Arc, OnceLock};

use aesp_audit::{Broken, Details, Event, Export, Options, PublicKey, Recorder, verify};
use aesp_proto::{
    Clock, Entropy, ManualClock, TenantId, Timestamp,
    v1::{EventType, Outcome},
};
use aesp_storage::Store;
use proptest::prelude::*;

/// Exports of two tenants, whose log has two chains with several batches, and the key that signed them.
struct Sample {
    exports: [Vec<u8>; 2],
    key: PublicKey,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(make(2))
    })
}

async fn make(seed: u64) -> Sample {
    let (store, entropy) = (Store::for_tests(), Entropy::from_seed(seed));
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let tenants = [TenantId::random(&entropy), TenantId::random(&entropy)];
    for tenant in tenants {
        store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await })).await.unwrap();
    }
    let mut key = None;
    for _ in 0..2 {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let (recorder, duty) =
            Recorder::start(store.clone(), clock, entropy.clone(), Options::default()).await.unwrap();
        for number in 0..4 {
            let event = |tenant| {
                let action = format!("tool.invoke.{number}");
                let mut event =
                    Event::new(&entropy, tenant, EventType::ToolInvocation, action, Outcome::Success);
                event.details = Details { reason: "r".into(), ..Details::default() };
                event
            };
            let [one, two] = tenants;
            recorder.append(vec![event(one), event(two), event(one), event(two)]).await.unwrap();
        }
        key = Some(recorder.public_key());
        duty.stop().await.unwrap();
    }
    let mut exports = [Vec::new(), Vec::new()];
    for (tenant, out) in tenants.into_iter().zip(&mut exports) {
        let mut export = Export::open(&store, clock.as_ref(), tenant).await.unwrap();
        while let Some(part) = export.next().await.unwrap() {
            out.extend_from_slice(&part);
        }
    }
    Sample { exports, key: key.unwrap() }
}

fn lines(export: &[u8]) -> Vec<Vec<u8>> {
    export.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn check(lines: &[Vec<u8>]) -> Result<(), Broken> {
    verify(lines.concat().as_slice(), &[sample().key]).map(|_| ())
}

/// Returns the indexes of the event lines.
fn events(lines: &[Vec<u8>]) -> Vec<usize> {
    (0..lines.len()).filter(|&i| lines[i].starts_with(br#"{"line":"event""#)).collect()
}

#[test]
fn an_untouched_export_verifies_and_names_what_it_holds() {
    for export in &sample().exports {
        let report = verify(export.as_slice(), &[sample().key]).unwrap();
        assert_eq!((report.batches, report.events, report.chains, report.trusted), (8, 16, 2, true));
    }
}

#[test]
fn the_first_bad_event_is_named() {
    let good = lines(&sample().exports[0]);
    let at = events(&good)[5];
    let line = u64::try_from(at).unwrap() + 1;

    let mut changed = good.clone();
    let text = String::from_utf8(changed[at].clone()).unwrap();
    changed[at] = text.replacen("\"leaf\":\"CAES", "\"leaf\":\"CAIS", 1).into_bytes();
    let broken = check(&changed).unwrap_err();
    assert_eq!((broken.line, broken.sequence), (line, Some(6)), "{broken}");

    let mut removed = good.clone();
    removed.remove(at);
    let broken = check(&removed).unwrap_err();
    assert_eq!((broken.line, broken.sequence), (line, Some(6)), "{broken}");

    let mut inserted = good.clone();
    inserted.insert(at, good[events(&good)[0]].clone());
    let broken = check(&inserted).unwrap_err();
    assert_eq!((broken.line, broken.sequence), (line, Some(6)), "{broken}");

    let mut swapped = good.clone();
    swapped.swap(at - 1, at);
    let broken = check(&swapped).unwrap_err();
    assert_eq!((broken.line, broken.sequence), (line - 1, Some(5)), "{broken}");
}

#[test]
fn a_missing_batch_another_tenant_and_another_key_are_found() {
    let good = lines(&sample().exports[0]);
    // A batch with its two events.
    let without: Vec<_> = good[..4].iter().chain(&good[7..]).cloned().collect();
    let broken = check(&without).unwrap_err();
    assert!(broken.line == 5 && broken.why.contains("missing"), "{broken}");

    let other = lines(&sample().exports[1]);
    let mut foreign = good.clone();
    foreign.splice(1..4, other[1..4].iter().cloned());
    assert_eq!(check(&foreign).unwrap_err().why, "the batch is another tenant's");

    let wrong = verify(sample().exports[0].as_slice(), &[PublicKey([1; 32])]).unwrap_err();
    assert_eq!((wrong.line, wrong.why.as_str()), (1, "no key in the header is a trusted one"));

    let cut = check(&good[..good.len() - 1]).unwrap_err();
    assert!(cut.why.contains("trailer is missing"), "{cut}");
    let whole_chain_gone: Vec<_> = good[..13].iter().chain(&good[25..]).cloned().collect();
    assert!(check(&whole_chain_gone).unwrap_err().why.contains("trailer counts"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_changed_byte_is_found(at in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let mut export = sample().exports[0].clone();
        let at = at.index(export.len());
        export[at] ^= flip;
        prop_assert!(verify(export.as_slice(), &[sample().key]).is_err());
    }

    #[test]
    fn any_change_of_lines_is_found(
        how in 0..5,
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let mut changed = lines(&sample().exports[0]);
        let other = lines(&sample().exports[1]);
        let (a, b) = (a.index(changed.len()), b.index(changed.len()));
        match how {
            0 => drop(changed.remove(a)),
            1 => changed.insert(a, changed[b].clone()),
            2 => {
                prop_assume!(a != b);
                changed.swap(a, b);
            }
            3 => changed[a] = other[b].clone(),
            _ => changed.truncate(a),
        }
        prop_assert!(check(&changed).is_err());
    }

    #[test]
    fn any_bytes_get_an_answer(bytes: Vec<u8>) {
        prop_assert!(verify(bytes.as_slice(), &[]).is_err());
    }
}
