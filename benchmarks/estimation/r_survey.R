# The peer R `survey`: the same post-stratified design, one svymean or svyby per question and breakdown.
#
#     Rscript r_survey.R DECODED ESTIMATES.csv
#
# Shares in percent with standard errors and 95 % Wilson intervals on the effective base (R's own svyciprop has none
# before version 4.4). Prints costs as one line of JSON; reading the CSV and loading packages stay outside.

suppressPackageStartupMessages(library(survey))
arguments <- commandArgs(trailingOnly = TRUE)
respondents <- read.csv(file.path(arguments[1], "respondents.csv"), na.strings = "")
totals <- read.csv(file.path(arguments[1], "totals.csv"))
responses <- read.csv(file.path(arguments[1], "responses.csv"))
asked <- read.csv(file.path(arguments[1], "asked.csv"))

status <- function(name) {
  line <- grep(paste0("^", name, ":"), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}
start_megabytes <- status("VmHWM")

# Rows of one domain: shares, their errors, and intervals with df = base - strata that have a base.
rows <- function(year, question, levels, breakdown, category, share, error, base, strata) {
  effective <- ifelse(share <= 0 | share >= 1, base, share * (1 - share) / error^2)
  t <- suppressWarnings(qt(0.975, base - strata))
  middle <- share + t^2 / (2 * effective)
  half <- t / (2 * effective) * sqrt(pmax(0, 4 * effective * share * (1 - share)) + t^2)
  data.frame(
    survey_year = year, breakdown = breakdown, category = category, question_id = question, number = levels,
    estimate = 100 * share, se = 100 * error,
    ci_low = 100 * ifelse(share <= 0, 0, (middle - half) / (1 + t^2 / effective)),
    ci_high = 100 * ifelse(share >= 1, 1, (middle + half) / (1 + t^2 / effective))
  )
}

estimate_wave <- function(year) {
  wave <- respondents[respondents$survey_year == year, ]
  wave$cell <- paste(wave$trust, wave$weight_cell)
  population <- with(totals[totals$survey_year == year, ], data.frame(cell = paste(trust, weight_cell), Freq = total))
  design <- postStratify(
    svydesign(ids = ~1, strata = ~trust, weights = ~trust_weight, data = wave), ~cell, population
  )
  result <- list()
  for (question in asked$question_id[asked$survey_year == year]) {
    levels <- responses$number[responses$question_id == question]
    is_valid <- !is.na(wave[[question]])
    valid <- wave[is_valid, ]
    # A post-stratified design keeps those outside a subset, with weight 0: any answer of theirs will do, but not NA.
    design$variables$answer <- factor(ifelse(is_valid, wave[[question]], levels[1]), levels)
    answered <- subset(design, is_valid)
    found <- svymean(~answer, answered)
    result[[length(result) + 1]] <- rows(
      year, question, levels, "all", "all", as.numeric(coef(found)), as.numeric(SE(found)), nrow(valid),
      length(unique(valid$trust))
    )
    for (breakdown in c("trust", "age_band", "gender")) {
      known <- subset(answered, wave[[breakdown]] != "unknown")
      found <- svyby(~answer, as.formula(paste0("~", breakdown)), known, svymean)
      shares <- as.matrix(found[, 1 + seq_along(levels)])
      errors <- as.matrix(found[, 1 + length(levels) + seq_along(levels)])
      categories <- as.character(found[[breakdown]])
      base <- table(valid[[breakdown]])[categories]
      strata <- tapply(valid$trust, valid[[breakdown]], function(trust) length(unique(trust)))[categories]
      for (i in seq_along(categories)) {
        result[[length(result) + 1]] <- rows(
          year, question, levels, breakdown, categories[i], shares[i, ], errors[i, ], base[[i]], strata[[i]]
        )
      }
    }
  }
  do.call(rbind, result)
}

start <- proc.time()
estimates <- do.call(rbind, lapply(sort(unique(respondents$survey_year)), estimate_wave))
spent <- proc.time() - start
write.csv(format(estimates, digits = 17, trim = TRUE), arguments[2], row.names = FALSE, quote = FALSE)
cat(sprintf(
  '{"cpu": %.3f, "wall": %.3f, "megabytes": %.1f, "start_megabytes": %.1f, "estimates": %d, "versions": "R %s, survey %s"}\n',
  sum(spent[c("user.self", "sys.self")]), spent[["elapsed"]], status("VmHWM"), start_megabytes, nrow(estimates),
  getRversion(), packageVersion("survey")
))
