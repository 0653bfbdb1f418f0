// The document that the checks edit: a board of values, and a text.
import { ContainerRuntimeFactoryWithDefaultDataStore, DataObject, DataObjectFactory } from "@fluidframework/aqueduct/legacy";
import type { ICodeDetailsLoader, IFluidCodeDetails } from "@fluidframework/container-definitions/legacy";
import { DefaultSummaryConfiguration, type ISummaryConfigurationHeuristics } from "@fluidframework/container-runtime/legacy";
import type { IFluidHandle } from "@fluidframework/core-interfaces";
import { SharedMap, type ISharedMap } from "@fluidframework/map/legacy";
import { SharedString, type ISharedString } from "@fluidframework/sequence/legacy";

export class Pad extends DataObject {
  board!: ISharedMap;
  text!: ISharedString;
  readonly signals: string[] = []; // of others

  signal(content: string): void {
    this.runtime.submitSignal("note", content);
  }

  /** content is what all who have the same messages must have. */
  content(): { board: Record<string, unknown>; text: string } {
    return { board: Object.fromEntries([...this.board.entries()].sort()), text: this.text.getText() };
  }

  protected override async initializingFirstTime(): Promise<void> {
    this.root.set("board", SharedMap.create(this.runtime).handle);
    this.root.set("text", SharedString.create(this.runtime).handle);
  }

  protected override async hasInitialized(): Promise<void> {
    this.board = await this.root.get<IFluidHandle<ISharedMap>>("board")!.get();
    this.text = await this.root.get<IFluidHandle<ISharedString>>("text")!.get();
    this.runtime.on("signal", ({ type, content }, local) => {
      if (type === "note" && !local) this.signals.push(content as string);
    });
  }
}

const padFactory = new DataObjectFactory({
  type: "pad", ctor: Pad, sharedObjects: [SharedMap.getFactory(), SharedString.getFactory()],
});

export const details: IFluidCodeDetails = { package: "pad" };

/** code returns what runs in a container. It summarizes after every opsPerSummary operations, or never. */
export function code(opsPerSummary: number): ICodeDetailsLoader {
  const fluidExport = new ContainerRuntimeFactoryWithDefaultDataStore({
    defaultFactory: padFactory,
    registryEntries: [padFactory.registryEntry],
    runtimeOptions: {
      summaryOptions: {
        summaryConfigOverrides: opsPerSummary === 0 ? { state: "disabled" } :
          { ...(DefaultSummaryConfiguration as ISummaryConfigurationHeuristics), maxOps: opsPerSummary, initialSummarizerDelayMs: 0 },
      },
    },
  });
  return { load: async () => ({ module: { fluidExport }, details }) };
}
