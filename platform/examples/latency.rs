//! Prints what the platform's basic operations cost on this host.
//! `cargo run --release -p platform --example latency [systrap|ptrace [only]]`

use std::{sync::Arc, time::Instant};

use platform::{
    AddressSpace, Backing, Context, MapOp, PAGE_SIZE, PlatformError, PlatformKind, Prot, Trap,
    memory::MemoryFile,
};

const CODE: u64 = 0x40_0000;
const AREA: u64 = 0x1000_0000;

type Guest = (Arc<dyn AddressSpace>, Box<dyn Context>);

/// Runs `f` so many times, several times over, and prints the best and the median.
fn measure(what: &str, times: u32, mut f: impl FnMut() -> Result<(), PlatformError>) {
    if std::env::args().nth(2).is_some_and(|only| !what.contains(&only)) {
        return;
    }
    let mut results = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..times {
            if let Err(error) = f() {
                println!("{what:<44} {error}");
                return;
            }
        }
        results.push(start.elapsed().as_nanos() / u128::from(times));
    }
    results.sort_unstable();
    println!("{what:<44} best {:>8} ns   median {:>8} ns", results[0], results[3]);
}

fn main() -> Result<(), PlatformError> {
    let kind = match std::env::args().nth(1).as_deref() {
        Some("ptrace") => PlatformKind::Ptrace,
        Some("kvm") => PlatformKind::Kvm,
        _ => PlatformKind::Systrap,
    };
    let host = |errno| PlatformError::Host { what: "the memory file", errno };
    let memory = Arc::new(MemoryFile::new(None).map_err(host)?);
    let platform = platform::create(kind, memory.clone(), None)?;
    let code = memory.allocate(PAGE_SIZE, None).map_err(host)?;
    // 0: syscall, again; 8: mov [rbx], al; add rbx, 4096; jmp 8
    memory.slice(code).copy_from(&[0x0f, 0x05, 0xeb, 0xfc]);
    memory
        .slice(code)
        .sub(8, 16)
        .copy_from(&[0x88, 0x03, 0x48, 0x81, 0xc3, 0, 0x10, 0, 0, 0xeb, 0xf5]);
    let data = memory.allocate(1024 * PAGE_SIZE, None).map_err(host)?;
    let map = |addr, range: platform::memory::FileRange, prot| MapOp::Map {
        addr,
        len: range.len(),
        prot,
        backing: Backing::Memory(range),
        populate: false,
    };
    let new_guest = || -> Result<Guest, PlatformError> {
        let space = platform.new_address_space()?;
        space.apply(&[map(CODE, code, Prot::READ | Prot::EXEC)])?;
        let mut context = space.clone().new_context()?;
        context.registers()?.rip = CODE;
        Ok((space, context))
    };
    let (space, mut context) = new_guest()?;
    measure("system call", 20_000, || context.switch().map(drop));
    measure("system call, registers fetched", 5_000, || {
        context.switch()?;
        context.registers().map(drop)
    });
    measure("system call, all state fetched", 5_000, || {
        context.switch()?;
        context.xstate().map(drop)
    });
    let mut at = 0;
    context.registers()?.rip = CODE + 8;
    context.registers()?.rbx = AREA;
    measure("fault, mapped, resumed", 146, || {
        let Trap::Fault { addr, .. } = context.switch()? else {
            return Err(PlatformError::Unsupported("no fault".into()));
        };
        let range = data.sub(at, PAGE_SIZE);
        at = (at + PAGE_SIZE) % data.len();
        space.apply(&[map(addr, range, Prot::READ | Prot::WRITE)])
    });
    space.apply(&[MapOp::Unmap { addr: AREA, len: 4096 * PAGE_SIZE }])?;
    let one = map(AREA, data.sub(0, PAGE_SIZE), Prot::READ);
    measure("map one page", 5_000, || space.apply(std::slice::from_ref(&one)));
    let eight: Vec<_> = (0..8)
        .map(|n| map(AREA + 2 * n * PAGE_SIZE, data.sub(n * PAGE_SIZE, PAGE_SIZE), Prot::READ))
        .collect();
    measure("map eight separate pages in one batch", 2_000, || space.apply(&eight));
    let toggle = [
        MapOp::Protect { addr: AREA, len: PAGE_SIZE, prot: Prot::empty() },
        MapOp::Protect { addr: AREA, len: PAGE_SIZE, prot: Prot::READ },
    ];
    measure("protect twice in one batch", 2_000, || space.apply(&toggle));
    measure("new context, thread reused", 500, || space.clone().new_context().map(drop));
    let mut kept = Vec::new();
    measure("new context, new thread", 100, || {
        kept.push(space.clone().new_context()?);
        Ok(())
    });
    measure("new address space, first system call, end", 40, || {
        let (_space, mut context) = new_guest()?;
        context.switch().map(drop)
    });
    measure("new address space alone, end", 40, || platform.new_address_space().map(drop));
    let mut spaces = Vec::new();
    measure("new address space, in a quiet moment", 1, || {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let start = Instant::now();
        spaces.push(platform.new_address_space()?);
        println!("  taken from the spare ones: {:?}", start.elapsed());
        Ok(())
    });
    Ok(())
}
