CREATE TABLE "godwit"."bad_rows" (
	"identity" text PRIMARY KEY NOT NULL,
	"job_id" uuid NOT NULL,
	"digest" text NOT NULL,
	"first_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"last_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"runs" integer DEFAULT 1 NOT NULL,
	"run_id" uuid NOT NULL,
	"state" text DEFAULT 'open' NOT NULL,
	"actor" text,
	"note" text,
	"settled_at" timestamp (3) with time zone
);
--> statement-breakpoint
ALTER TABLE "godwit"."quarantine" ADD COLUMN "identity" text;--> statement-breakpoint
ALTER TABLE "godwit"."quarantine" ADD COLUMN "digest" text;--> statement-breakpoint
ALTER TABLE "godwit"."bad_rows" ADD CONSTRAINT "bad_rows_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "godwit"."jobs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "bad_rows_job" ON "godwit"."bad_rows" USING btree ("job_id");--> statement-breakpoint
CREATE INDEX "quarantine_identity" ON "godwit"."quarantine" USING btree ("identity");