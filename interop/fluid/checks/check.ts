import type { Case, Variant } from "../case.ts";

export interface Check {
  id: number; // in document.md section 15
  name: string;
  variant?: Variant;
  restarts?: boolean; // the server
  nodes?: boolean; // wants another node, and kills one
  run(c: Case): Promise<void>;
}
