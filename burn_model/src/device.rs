//! The device that trains, chosen by name at run time.
//!
//! burn's own default device is not used: with a GPU backend compiled in, it returns that backend
//! even on a machine without a GPU.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A device by name, as recipes and flags write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum DeviceName {
    /// `cpu`: the processor, each run on one thread. Only on this device are runs repeated bit for
    /// bit.
    #[default]
    Cpu,
    /// `auto`: the first GPU of CUDA, then of Vulkan, then of wgpu; without one the processor.
    /// Never a software GPU.
    Auto,
    /// `cuda:N`: the Nth GPU of NVIDIA's driver.
    Cuda(usize),
    /// `vulkan:KIND:N` or `wgpu:KIND:N`: the Nth device of a kind.
    Wgpu(Interface, Kind, usize),
}

/// The interface to a device of wgpu.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interface {
    /// Vulkan only.
    Vulkan,
    /// The interface that wgpu chooses.
    Any,
}

/// The kind of a device of wgpu.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A separate graphics card.
    Discrete,
    /// A GPU that is part of the processor.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// A software GPU, such as Mesa's llvmpipe.
    Software,
}

/// The kinds of devices of wgpu with their names.
const KINDS: [(Kind, &str); 4] = [
    (Kind::Discrete, "discrete"),
    (Kind::Integrated, "integrated"),
    (Kind::Virtual, "virtual"),
    (Kind::Software, "software"),
];

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused =
            |reason: &str| Error::Setting { setting: "device", value: text.to_owned(), reason: reason.into() };
        let number = |part: Option<&&str>| match part {
            None => Ok(0),
            Some(part) => part.parse().map_err(|_| refused("the last part must be a number")),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (name, longest) = match parts[0] {
            "cpu" => (Self::Cpu, 1),
            "auto" => (Self::Auto, 1),
            "cuda" => (Self::Cuda(number(parts.get(1))?), 2),
            "vulkan" | "wgpu" => {
                let interface = if parts[0] == "vulkan" { Interface::Vulkan } else { Interface::Any };
                let wanted = parts.get(1).copied().unwrap_or("discrete");
                let kind = KINDS.iter().find(|(_, name)| *name == wanted).map(|(kind, _)| *kind);
                let kind = kind.ok_or_else(|| refused("a kind is discrete, integrated, virtual or software"))?;
                (Self::Wgpu(interface, kind, number(parts.get(2))?), 3)
            }
            _ => return Err(refused("it must be auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N")),
        };
        if parts.len() > longest { Err(refused("it has too many parts")) } else { Ok(name) }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => out.write_str("cpu"),
            Self::Auto => out.write_str("auto"),
            Self::Cuda(number) => write!(out, "cuda:{number}"),
            Self::Wgpu(_, _, number) => write!(out, "{}:{}:{number}", self.backend(), self.kind()),
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl DeviceName {
    /// Returns the device that the name means on this machine; `auto` becomes another name.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] if the machine or this build does not have it; the error lists the
    /// available devices.
    pub fn resolve(&self) -> Result<Self> {
        let there = devices();
        let chosen = match self {
            Self::Auto => there.iter().find(|name| name.is_gpu()).or(Some(&Self::Cpu)),
            name => there.iter().find(|one| *one == name),
        };
        chosen.cloned().ok_or_else(|| {
            let there: Vec<String> = there.iter().map(ToString::to_string).collect();
            Error::NoDevice { name: self.to_string(), there: there.join(", "), backends: backends().join(", ") }
        })
    }

    /// Returns whether it is a hardware GPU.
    pub fn is_gpu(&self) -> bool {
        !matches!(self, Self::Cpu | Self::Auto | Self::Wgpu(_, Kind::Software, _))
    }

    /// Returns the backend of the device: `flex`, `cuda`, `vulkan` or `wgpu`.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Cpu | Self::Auto => "flex",
            Self::Cuda(_) => "cuda",
            Self::Wgpu(Interface::Vulkan, ..) => "vulkan",
            Self::Wgpu(Interface::Any, ..) => "wgpu",
        }
    }

    /// Returns the kind of the device: `cpu`, or a kind of GPU.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cpu | Self::Auto => "cpu",
            Self::Cuda(_) => "discrete",
            Self::Wgpu(_, kind, _) => KINDS.iter().find(|(one, _)| one == kind).map_or("", |(_, name)| *name),
        }
    }

    /// Opens the device after checking that it exists; otherwise burn would panic at the first
    /// tensor.
    ///
    /// # Errors
    ///
    /// As [`DeviceName::resolve`].
    pub fn open(&self) -> Result<Device> {
        let name = self.resolve()?;
        let found = listed().iter().find_map(|(one, device)| (*one == name).then(|| device.clone()));
        Ok(found.unwrap_or_else(Device::flex))
    }
}

/// Returns the devices of this machine that this build can open, GPUs first. Opens none of them.
pub fn devices() -> Vec<DeviceName> {
    listed().iter().map(|(name, _)| name.clone()).collect()
}

/// Returns the backends of this build.
pub fn backends() -> Vec<&'static str> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("flex", true),
    ];
    all.into_iter().filter(|(_, is_in)| *is_in).map(|(name, _)| name).collect()
}

/// Returns every device with its name: hardware GPUs, then software GPUs, then the processor.
///
/// The drivers are asked once per process. A check was refused on an H200 because Vulkan and wgpu
/// had no device when they were asked again (driver 580.159, 29 November 2026); with one question
/// it began. The cause is not known.
fn listed() -> &'static [(DeviceName, Device)] {
    static LISTED: OnceLock<Vec<(DeviceName, Device)>> = OnceLock::new();
    LISTED.get_or_init(|| {
        let mut all = cuda_devices();
        all.extend(wgpu_devices());
        all.sort_by_key(|(name, _)| !name.is_gpu());
        all.push((DeviceName::Cpu, Device::flex()));
        all
    })
}

#[cfg(feature = "cuda")]
fn cuda_devices() -> Vec<(DeviceName, Device)> {
    let count = Device::enumerate(burn::tensor::DeviceType::Cuda).len();
    (0..count).map(|number| (DeviceName::Cuda(number), Device::cuda(number))).collect()
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Vec<(DeviceName, Device)> {
    Vec::new()
}

#[cfg(feature = "wgpu")]
fn wgpu_devices() -> Vec<(DeviceName, Device)> {
    use burn::tensor::{DeviceKind, DeviceType, Devices};

    let mut all: Vec<(DeviceName, Device)> = Vec::new();
    // burn lists devices without their kind, so each kind and number is compared with the list.
    let mut add = |interface, found: Devices, open: &dyn Fn(DeviceKind) -> Device| {
        for (kind, _) in KINDS {
            for number in 0..found.len() {
                let (burns, number) = match kind {
                    Kind::Discrete => (DeviceKind::DiscreteGpu(number), number),
                    Kind::Integrated => (DeviceKind::IntegratedGpu(number), number),
                    Kind::Virtual => (DeviceKind::VirtualGpu(number), number),
                    Kind::Software => (DeviceKind::Cpu, 0),
                };
                let entry = (DeviceName::Wgpu(interface, kind, number), open(burns));
                if found.contains(&entry.1) && !all.contains(&entry) {
                    all.push(entry);
                }
            }
        }
    };
    #[cfg(feature = "vulkan")]
    add(Interface::Vulkan, Device::enumerate(DeviceType::Vulkan), &|kind| Device::vulkan(kind));
    add(Interface::Any, Device::enumerate(DeviceType::Wgpu), &|kind| Device::wgpu(kind));
    all
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_devices() -> Vec<(DeviceName, Device)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["cpu", "auto", "cuda:1", "vulkan:software:0", "wgpu:integrated:0", "vulkan:discrete:2"] {
            assert_eq!(text.parse::<DeviceName>().unwrap().to_string(), text);
        }
        assert_eq!("vulkan".parse::<DeviceName>().unwrap().to_string(), "vulkan:discrete:0");
        assert_eq!("cuda".parse::<DeviceName>().unwrap().to_string(), "cuda:0");
    }

    #[test]
    fn other_names_are_refused_with_those_that_work() {
        let refusal = |text: &str| text.parse::<DeviceName>().unwrap_err().to_string();
        assert!(refusal("gpu").contains("auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N"));
        assert!(refusal("cuda:1:2").contains("too many parts"));
        assert!(refusal("cuda:one").contains("must be a number"));
        assert!(refusal("wgpu:fast").contains("discrete, integrated, virtual or software"));
        assert!(refusal("").contains("must be auto"));
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_that_names_those_that_are() {
        let error = "cuda:77".parse::<DeviceName>().unwrap().resolve().unwrap_err().to_string();
        assert!(error.contains("cuda:77") && error.contains("cpu"), "{error}");
        assert_eq!(DeviceName::Cpu.resolve().unwrap(), DeviceName::Cpu);
    }

    #[test]
    fn software_is_never_chosen_by_itself() {
        let chosen = DeviceName::Auto.resolve().unwrap();
        assert!(chosen == DeviceName::Cpu || chosen.is_gpu());
        assert_eq!(devices().last(), Some(&DeviceName::Cpu));
    }
}
