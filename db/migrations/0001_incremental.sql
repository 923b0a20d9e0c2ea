CREATE TABLE "godwit"."notifications" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"run_id" uuid NOT NULL,
	"event" text NOT NULL,
	"channel" text NOT NULL,
	"status" text DEFAULT 'queued' NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"failure" jsonb,
	"sent_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "notifications_once" UNIQUE("run_id","event","channel")
);
--> statement-breakpoint
CREATE TABLE "godwit"."schedules" (
	"job_id" uuid NOT NULL,
	"key" text NOT NULL,
	"kind" text NOT NULL,
	"expression" text NOT NULL,
	"timezone" text NOT NULL,
	"options" jsonb NOT NULL,
	"temporal_id" text NOT NULL,
	"until" timestamp (3) with time zone,
	"paused" boolean DEFAULT false NOT NULL,
	"note" text,
	"actor" text,
	"applied" text,
	"applied_at" timestamp (3) with time zone,
	"failure" jsonb,
	"next" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "schedules_job_id_key_pk" PRIMARY KEY("job_id","key"),
	CONSTRAINT "schedules_temporal_id_unique" UNIQUE("temporal_id")
);
--> statement-breakpoint
CREATE TABLE "godwit"."settings" (
	"name" text PRIMARY KEY NOT NULL,
	"value" jsonb NOT NULL,
	"secrets" "bytea",
	"secret_names" text[] DEFAULT '{}' NOT NULL,
	"actor" text,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "godwit"."chunks" ADD COLUMN "rows_unchanged" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."chunks" ADD COLUMN "rows_inserted" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."chunks" ADD COLUMN "rows_updated" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."chunks" ADD COLUMN "rows_deleted" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."quarantine" ADD COLUMN "state" text DEFAULT 'open' NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."quarantine" ADD COLUMN "actor" text;--> statement-breakpoint
ALTER TABLE "godwit"."quarantine" ADD COLUMN "note" text;--> statement-breakpoint
ALTER TABLE "godwit"."quarantine" ADD COLUMN "settled_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "godwit"."run_tables" ADD COLUMN "increment" "bytea";--> statement-breakpoint
ALTER TABLE "godwit"."run_tables" ADD COLUMN "step" text;--> statement-breakpoint
ALTER TABLE "godwit"."run_tables" ADD COLUMN "rows_unchanged" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."run_tables" ADD COLUMN "rows_inserted" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."run_tables" ADD COLUMN "rows_updated" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."run_tables" ADD COLUMN "rows_deleted" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "godwit"."runs" ADD COLUMN "request" jsonb;--> statement-breakpoint
ALTER TABLE "godwit"."runs" ADD COLUMN "request_bounds" "bytea";--> statement-breakpoint
ALTER TABLE "godwit"."runs" ADD COLUMN "cut_off_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "godwit"."snapshots" ADD COLUMN "clock" text;--> statement-breakpoint
ALTER TABLE "godwit"."snapshots" ADD COLUMN "pending" text;--> statement-breakpoint
ALTER TABLE "godwit"."notifications" ADD CONSTRAINT "notifications_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "godwit"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "godwit"."schedules" ADD CONSTRAINT "schedules_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "godwit"."jobs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "notifications_due" ON "godwit"."notifications" USING btree ("status","next_at");