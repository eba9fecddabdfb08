import { Controller } from '@nestjs/common';
import { StatusController } from 'nestjs-minibatch';

/** What the streams and their consumers are doing, as JSON. A real application puts its guard here. */
@Controller('status')
export class FlightStatus extends StatusController {}
