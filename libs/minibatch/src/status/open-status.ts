import { Inject, type OnApplicationBootstrap } from '@nestjs/common';
import { HttpAdapterHost, ModulesContainer } from '@nestjs/core';
import { minibatchLog } from '../definitions/minibatch-log.js';
import { StatusController } from './status.controller.js';

/** A provider under the token `APP_GUARD` is known to Nest by this and a number. */
const APP_GUARD = /^APP_GUARD\b/;

/** The module's own status controller where no guards were given: anybody may read it, and the log says so. */
export abstract class OpenStatusController extends StatusController implements OnApplicationBootstrap {
  @Inject(HttpAdapterHost) private readonly http!: HttpAdapterHost;
  @Inject(ModulesContainer) private readonly modules!: ModulesContainer;

  protected abstract readonly path: string;

  onApplicationBootstrap(): void {
    // Without HTTP nothing is served; and a guard of the whole application guards this, too.
    if (!this.http.httpAdapter || this.hasGlobalGuard()) return;
    minibatchLog().warn(
      `GET /${this.path.replace(/^\//, '')} tells everybody who can reach it the names of streams and groups, their errors and hosts. ` +
        'Give statusController guards: { guards: [AdminGuard] }; or { guards: [] } if everybody may read it',
    );
  }

  private hasGlobalGuard(): boolean {
    return [...this.modules.values()].some(({ providers }) =>
      [...providers.keys()].some((token) => typeof token === 'string' && APP_GUARD.test(token)),
    );
  }
}
