//! The order of the platform's locks. All of them are inside those of the sentry,
//! whose ranks are lower: the platform calls nobody back while it holds one.

ranked_sync::lock_order! {
    base 1000;
    /// Address spaces that wait for another process.
    SpacePool,
    /// Guest threads of an address space without a context.
    IdleThreads,
    /// An address space's list of changes, while the stub carries them out.
    SpaceCommands,
    /// Rewritten call sites of an address space; a child's after its parent's.
    CallSites,
    /// Spare stub processes.
    SparePool,
    /// A stub process' guest threads.
    StubThreads,
    /// Listeners which no context owns yet.
    PendingListeners,
    /// The conversation with the zygote.
    ZygoteChannel,
    /// Stub processes by process descriptor, for the reaper.
    ReaperTable,
    /// Which sentry threads wait for a stub process.
    StubWaiters,
    /// Pairs which the balancer has not seen yet.
    PairTable,
    /// Free slots and command pages.
    ControlPool,
    /// A KVM address space: its mappings and page tables.
    KvmSpace,
    /// Maps of host files in guest-physical memory.
    KvmFiles,
    /// Tables of address spaces that are gone.
    KvmRemains,
    /// The vCPU that changes page tables when the caller has none.
    KvmCommander,
    /// Idle vCPUs.
    KvmPool,
    /// All vCPUs, for those who have to interrupt them.
    KvmVcpus,
    /// A context's state that may be in a vCPU.
    KvmSaved,
    /// The vCPU that a context runs on, for those who kick it.
    KvmKick,
    /// Slots of guest-physical memory.
    KvmSlots,
    /// Free pages for page tables.
    KvmPages,
    /// The counts and the free space of the memory file.
    MemoryFileSpace,
}
