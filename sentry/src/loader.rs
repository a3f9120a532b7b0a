//! From an executable file to a process image: ELF, scripts, the initial stack, auxv, vDSO.
