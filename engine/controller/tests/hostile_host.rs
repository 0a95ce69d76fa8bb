//! A host that does anything: any register, doorbell, command and pointer. The controller may fail its commands or
//! itself, but it goes on, ends what it began, touches nothing that it was not given, and works again after a reset.

mod host;

use std::time::{Duration, Instant};

use engine_controller::ControllerOptions;
use engine_nvme_spec::{Sqe, nvm, register};
use engine_transport::Transport;
use host::{Host, pattern};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Register(u32, u32),
    Wide(u32, u64),
    Doorbell(u16, bool, u32),
    Command(u16, Box<Sqe>),
    Scribble(u64, u64),
    Work(u16),
}

/// An address that leads somewhere interesting: into the host's memory, past it, or nowhere.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0_u64..24 << 20).prop_map(|offset| (1 << 32) + (offset & !0xfff)),
        2 => (0_u64..24 << 20).prop_map(|offset| (1 << 32) + offset),
        1 => (0_u64..1 << 20).prop_map(|offset| (1 << 32) + (24 << 20) - (1 << 19) + offset),
        1 => any::<u64>(),
    ]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0_u32..70, 1 => any::<u32>(), 1 => (0_u32..32).prop_map(|shift| 1 << shift)]
}

fn command() -> impl Strategy<Value = Sqe> {
    let head =
        (prop_oneof![4 => 0_u8..0x20, 1 => any::<u8>()], prop_oneof![4 => Just(0_u8), 1 => any::<u8>()]);
    let nsid = prop_oneof![6 => Just(1_u32), 1 => Just(u32::MAX), 1 => any::<u32>()];
    (head, nsid, address(), address(), [small(), small(), small(), small(), small(), small()]).prop_map(
        |((opcode, flags), nsid, prp1, prp2, dwords)| {
            let [cdw10, cdw11, cdw12, cdw13, cdw14, cdw15] = dwords.map(Into::into);
            Sqe {
                flags,
                cdw10,
                cdw11,
                cdw12,
                cdw13,
                cdw14,
                cdw15,
                ..Sqe::new(opcode, nsid).with_prps(prp1, prp2)
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (prop_oneof![0_u32..0x100, 0x1000_u32..0x1100, any::<u32>()], small())
            .prop_map(|(offset, value)| Step::Register(offset, value)),
        1 => (prop_oneof![0_u32..0x100, any::<u32>()], address()).prop_map(|(offset, value)| Step::Wide(offset, value)),
        2 => (0_u16..6, any::<bool>(), small()).prop_map(|(queue, side, value)| Step::Doorbell(queue, side, value)),
        12 => (0_u16..3, command()).prop_map(|(queue, sqe)| Step::Command(queue, Box::new(sqe))),
        2 => (0_u64..24 << 20, address()).prop_map(|(place, word)| Step::Scribble(place & !7, word)),
        6 => (0_u16..4).prop_map(Step::Work),
    ]
}

fn carry_out(host: &mut Host, step: Step) {
    match step {
        Step::Register(offset, value) => host.write32(offset, value),
        Step::Wide(offset, value) => host.transport.write64(offset, value).unwrap(),
        Step::Doorbell(queue, side, value) => host.ring(queue, side, value),
        Step::Command(queue, sqe) => {
            host.submit(queue, *sqe);
        }
        Step::Scribble(place, word) => {
            let place = usize::try_from(place).unwrap();
            host.memory.region().write(place, &word.to_le_bytes()).unwrap();
        }
        Step::Work(queue) => {
            host.transport.assist(queue, Duration::ZERO);
        }
    }
}

fn survives(threads: usize, steps: Vec<Step>) {
    let options = ControllerOptions { threads, queue_pairs: 4, ..ControllerOptions::default() };
    let (mut host, backing) = Host::ready_with(options);
    host.create_pair(2, 8);
    // Memory that the controller was not told of.
    let outside = engine_dma::Region::private(1 << 20).unwrap();
    outside.write(0, &pattern(9, 1 << 20)).unwrap();
    let start = Instant::now();
    for step in steps {
        carry_out(&mut host, step);
    }
    for queue in 0..4 {
        host.transport.assist(queue, Duration::ZERO);
    }
    host.transport.reset().unwrap();
    assert!(start.elapsed() < host::LIMIT, "the controller took {:?}", start.elapsed());
    host.write32(register::CSTS, 0x10);
    host.enable();
    host.create_pair(1, 16);
    backing.region().write(0, &pattern(3, 4096)).unwrap();
    let at = host.memory.take(4096);
    host.io_ok(nvm::read(1, 0, 8).with_prps(at, 0));
    assert!(host.memory.read(at, 4096) == pattern(3, 4096));
    let mut untouched = vec![0; 1 << 20];
    outside.read(0, &mut untouched).unwrap();
    assert!(untouched == pattern(9, 1 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn assisted_controller_survives_any_host(steps in prop::collection::vec(step(), 1..120)) {
        survives(0, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn controller_with_threads_survives_any_host(steps in prop::collection::vec(step(), 1..120)) {
        survives(2, steps);
    }
}
