// Calls of the service's REST API for one document, with errors as Fluid's loader
// wants them: it repeats what can be repeated.
import { DriverErrorTypes } from "@fluidframework/driver-definitions/legacy";
import { createGenericNetworkError, NonRetryableError, ThrottlingError } from "@fluidframework/driver-utils/internal";
import type { Watch } from "./watch.ts";

const version = { driverVersion: "1" };

export class Rest {
  constructor(private readonly base: string, private readonly token: () => string, private readonly watch?: Watch) {}

  async get<T>(path: string): Promise<T> {
    return this.#call<T>("GET", path);
  }

  async post<T>(path: string, body: unknown): Promise<T> {
    return this.#call<T>("POST", path, body);
  }

  async patch<T>(path: string, body: unknown): Promise<T> {
    return this.#call<T>("PATCH", path, body);
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    this.watch?.requested?.(method, path);
    const headers: Record<string, string> = { Authorization: `Bearer ${this.token()}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response: Response;
    try {
      response = await fetch(this.base + path, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
    } catch (error) {
      throw createGenericNetworkError(`${method} ${path}: ${error}`, { canRetry: true }, version);
    }
    if (response.ok) return (await response.json()) as T;
    throw failure(response.status, `${method} ${path}: ${response.status} ${await response.text()}`);
  }
}

/** failure returns what a status means: the loader tries again after some only. */
export function failure(status: number, message: string, retryAfter = 1): Error {
  const props = { ...version, statusCode: status };
  if (status === 429) return new ThrottlingError(message, retryAfter, props);
  if (status >= 500) return createGenericNetworkError(message, { canRetry: true }, props);
  const type =
    status === 401 || status === 403 ? DriverErrorTypes.authorizationError :
    status === 404 ? DriverErrorTypes.fileNotFoundOrAccessDeniedError :
    DriverErrorTypes.genericNetworkError;
  return new NonRetryableError(message, type, props);
}
