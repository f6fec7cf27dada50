// Random numbers without a call to the host: seeded once, then computed in the plugin.

// From the WASI module that the SDK's abort already imports.
import { errno, random_get } from "bindings/wasi_unstable";

// A SplitMix64 generator: good enough to draw lots with.
export class Random {
  private state: u64 = 0;

  // Asks the host for a seed. False if it has none to give.
  seed(): bool {
    let state = changetype<usize>(this) + offsetof<Random>("state");
    return random_get(state, sizeof<u64>()) == errno.SUCCESS;
  }

  // A number in 0..bound.
  below(bound: u32): u32 {
    this.state += 0x9e3779b97f4a7c15;
    let mixed = this.state;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    // The upper half of the product of a 32-bit fraction and the bound.
    return <u32>(((mixed >> 32) * <u64>bound) >> 32);
  }
}
