// Runs main.ts, which is written in TypeScript because the driver's interfaces are.
import { register } from "tsx/esm/api";

register();
await import("./main.ts");
