//! Compiles two kernels for NVIDIA's GPUs as the CUDA backend does at run time, without a GPU, and
//! writes them as PTX, which `ptxas` can assemble.
//!
//! `cargo run -p lynxdata-burn-model --features cuda-kernels --example kernels_to_ptx FOLDER`
#![allow(missing_docs, clippy::print_stdout, reason = "kernels and an example that prints")]

use std::error::Error;
use std::ffi::CStr;
use std::sync::Arc;

use cubecl_core as cubecl;
use cubecl_core::Compiler;
use cubecl_core::ir::features::Features;
use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::ir::{DeviceIdentity, HardwareProperties, MemoryDeviceProperties};
use cubecl_core::prelude::*;
use cubecl_llvm::nvptx::ptx_version::PtxVersion;
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler, PlironOptions};
use cubecl_runtime::kernel::CubeKernel;

/// Architecture of the H100 and H200.
const ARCHITECTURE: u32 = 90;

/// The driver version of CUDA 12.8.
const DRIVER: i32 = 12_080;

/// A kernel that needs arithmetic only.
#[cube(launch)]
fn double(input: &[f32], output: &mut [f32]) {
    if ABSOLUTE_POS < input.len() {
        output[ABSOLUTE_POS] = input[ABSOLUTE_POS] * 2.0;
    }
}

/// A kernel that needs an exponential, and therefore `libdevice.10.bc`.
#[cube(launch)]
fn silu(input: &[f32], output: &mut [f32]) {
    if ABSOLUTE_POS < input.len() {
        let x = input[ABSOLUTE_POS];
        output[ABSOLUTE_POS] = x / (1.0 + (-x).exp());
    }
}

/// Returns the device properties of an H100.
fn properties() -> Arc<DeviceProperties> {
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 32,
        max_shared_memory_size: 65_536,
        max_cube_count: (u32::MAX, u32::from(u16::MAX), u32::from(u16::MAX)),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 1024),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    let identity = DeviceIdentity { name: "none".to_owned(), fingerprint: "none".to_owned(), physical: None };
    let memory = MemoryDeviceProperties::new(u64::MAX, 256);
    let timing = cubecl_core::profile::TimingMethod::Device;
    Arc::new(DeviceProperties::new(Features::default(), memory, hardware, timing, identity))
}

fn ptx_of(kernel: impl CubeKernel) -> Result<String, Box<dyn Error>> {
    let mut compiler = PlironCompiler { target: LlvmTarget::Nvptx };
    let options = PlironOptions {
        sm_arch: Some(SmArch::new(ARCHITECTURE, true)),
        ptx_version: PtxVersion::for_driver(DRIVER),
        ..Default::default()
    };
    let artifact = compiler.compile(kernel.define(), &options).map_err(|error| format!("{error:?}"))?;
    let PlironArtifact::NvptxCode(module) = artifact else { return Err("the compiler made no PTX".into()) };
    let bytes: Vec<u8> = module.ptx.iter().map(|byte| *byte as u8).collect();
    Ok(CStr::from_bytes_until_nul(&bytes)?.to_str()?.to_owned())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: kernels_to_ptx FOLDER")?;
    let settings = || KernelSettings::new(*CubeDim::new_1d(64), ExecutionMode::Checked, AddressType::U32);
    let buffer = || BufferCompilationArg { inplace: None };
    let target = || Arc::new(TargetProperties::default());
    let double = double::Double::new(settings(), properties(), target(), buffer(), buffer());
    let silu = silu::Silu::new(settings(), properties(), target(), buffer(), buffer());
    for (name, ptx) in [("double", ptx_of(double)?), ("silu", ptx_of(silu)?)] {
        println!("{name}: {} bytes of PTX", ptx.len());
        std::fs::write(format!("{folder}/{name}.ptx"), ptx)?;
    }
    Ok(())
}
