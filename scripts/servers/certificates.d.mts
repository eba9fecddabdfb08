export interface EncryptionOptions {
  /** A listener with TLS too; its certificate is signed by an authority of its own. */
  tls?: boolean;
}

export interface Encrypted {
  /** With `tls`. */
  readonly tlsUrl: string | undefined;
  /** Certificate of the authority (PEM), with `tls`. */
  readonly ca: string | undefined;
}
