// The tokens of the development tenant. A page would get them from its own server,
// which alone knows the secret.
import { createHmac } from "node:crypto";

export interface Tenant {
  id: string;
  secret: string;
}

const LIFE = 3600; // seconds

const part = (claims: object) => Buffer.from(JSON.stringify(claims)).toString("base64url");

/** sign returns a token for one document that may do everything there. */
export function sign(tenant: Tenant, documentId: string, user: string): string {
  const now = Math.floor(Date.now() / 1000);
  const signed = [
    part({ alg: "HS256" }),
    part({
      documentId,
      tenantId: tenant.id,
      scopes: ["doc:read", "doc:write", "summary:write"],
      user: { id: user, name: user },
      iat: now,
      exp: now + LIFE,
      ver: "1.0",
    }),
  ].join(".");
  return `${signed}.${createHmac("sha256", tenant.secret).update(signed).digest("base64url")}`;
}
