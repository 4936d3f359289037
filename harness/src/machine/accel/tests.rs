//! Tests of the preflight: real QEMU, under TCG and under whatever KVM this host has.

use rstest::rstest;

use super::*;
use crate::machine::QEMU;

const STOPS_AFTER_4: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kvm-preflight-stops-after-4.bin"));
const TCG: &[&str] = &["-accel", "tcg"];

fn boot(payload: &[u8], limit: Duration) -> Boot {
    super::boot(Path::new(QEMU), TCG, payload, limit).expect("next: apt-get install qemu-system-x86")
}

#[test]
fn the_payload_passes_where_everything_works() {
    let run = boot(PAYLOAD, Duration::from_secs(60));
    assert_eq!(run.state(), KvmState::Works, "{} {}", run.stages, run.said);
}

#[test]
fn a_payload_that_stops_is_broken_at_that_stage_and_within_the_limit() {
    let (started, limit) = (Instant::now(), Duration::from_secs(4));
    let state = boot(STOPS_AFTER_4, limit).state();
    let KvmState::Broken { stage, detail } = &state else { panic!("{state:?}") };
    assert_eq!(*stage, '4');
    assert!(detail.contains("killed after 4.0 s"), "{detail}");
    assert!(started.elapsed() < limit + Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(state.to_string().contains("stage 4 of 9 (protected mode)"), "{state}");
}

#[test]
fn a_qemu_that_ends_early_is_broken_with_its_words() {
    let run = super::boot(Path::new(QEMU), &["-accel", "nonsense"], PAYLOAD, PREFLIGHT_LIMIT).unwrap();
    let KvmState::Broken { stage: '0', detail } = run.state() else { panic!("{:?}", run.state()) };
    assert!(detail.contains("exit status: 1") && detail.contains("nonsense"), "{detail}");
}

#[test]
fn this_host_gets_an_answer_and_remembers_it() {
    let cache = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let state = preflight(Path::new(QEMU), Some(cache.path()), PREFLIGHT_LIMIT).unwrap();
    println!("on this host, after {:?}: {state}", started.elapsed());
    assert!(started.elapsed() < PREFLIGHT_LIMIT + Duration::from_secs(4));
    let file = cache.path().join(CACHE_FILE);
    if matches!(state, KvmState::Absent | KvmState::NoPermission) {
        assert!(!file.exists(), "a question that costs nothing is asked again");
        return;
    }
    // Another answer under the same key must come back: the cache is believed.
    let mut kept: Kept = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept.state, state);
    kept.state = KvmState::Broken { stage: '7', detail: "kept".into() };
    write_cache(&file, &kept).unwrap();
    assert_eq!(preflight(Path::new(QEMU), Some(cache.path()), PREFLIGHT_LIMIT).unwrap(), kept.state);
    // Under another key, or damaged, it must not.
    kept.key.kernel.push('x');
    write_cache(&file, &kept).unwrap();
    let asked_again = preflight(Path::new(QEMU), Some(cache.path()), PREFLIGHT_LIMIT).unwrap();
    assert_ne!(asked_again, kept.state);
    std::fs::write(&file, b"{").unwrap();
    assert_eq!(read_cache(&file, &kept.key), None);
}

#[rstest]
#[case(KvmState::Works, Some(Accelerator::Kvm), Some(Accelerator::Kvm))]
#[case(KvmState::Absent, Some(Accelerator::Tcg), None)]
#[case(KvmState::NoPermission, Some(Accelerator::Tcg), None)]
#[case(KvmState::Broken { stage: '4', detail: "then QEMU ended".into() }, Some(Accelerator::Tcg), None)]
fn auto_falls_back_and_kvm_insists(
    #[case] state: KvmState,
    #[case] auto: Option<Accelerator>,
    #[case] kvm: Option<Accelerator>,
) {
    for (choice, wanted) in [(AccelChoice::Auto, auto), (AccelChoice::Kvm, kvm)] {
        let chosen = decide(choice, state.clone());
        assert_eq!(chosen.as_ref().ok().map(|(accelerator, _)| *accelerator), wanted);
        if let Ok((Accelerator::Tcg, sentence)) = chosen {
            assert!(sentence.contains(&state.to_string()) && !sentence.contains('\n'), "{sentence}");
        }
    }
}
